"""A step of distillation with the teacher beside the student, V = 49,152: transformers' two models and TRL's
own GKD loss over whole logits against retort's chunks; seconds, and the peak memory of fresh processes.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import resource
import subprocess
import sys

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
import transformers  # noqa: E402
from bench import hf, models, pairs  # noqa: E402
from bench.ours import Ours, documents  # noqa: E402

BATCH, TOKENS = 4, 256
CONFIG = {"divergence": "forward_kl", "temperature": 1}  # TRL: beta 0
RECOMPUTE = 1  # norms and activations, in backward: the numbers stay the same to the bit
WORK = f"distil SmolLM2, teacher of twice its size, {BATCH} x {TOKENS}, recompute {RECOMPUTE}"


def teacher_folder():
    """A random Llama of twice SmolLM2's size with its vocabulary; alike on every machine."""
    folder = models.cache() / "kd_teacher"
    if (folder / "config.json").exists():
        return folder
    torch.manual_seed(21)
    config = transformers.LlamaConfig(
        hidden_size=768, num_hidden_layers=36, num_attention_heads=12, num_key_value_heads=4,
        intermediate_size=2048, vocab_size=49152, tie_word_embeddings=True, max_position_embeddings=2048,
        initializer_range=0.1)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def rows():
    return torch.randint(0, 49152, (BATCH, TOKENS), generator=torch.Generator().manual_seed(5)).tolist()


class Peer(hf.HF):
    """The step of TRL's GKDTrainer (trl/experimental/gkd) without its data loader."""

    def __init__(self, threads):
        super().__init__(models.smollm2(), threads)
        self.teacher = transformers.AutoModelForCausalLM.from_pretrained(teacher_folder(), dtype=torch.float32)
        self.teacher.eval()

    def loss_of(self, batch):
        from trl.experimental.gkd import GKDTrainer
        ids = batch["ids"]
        student = self.model(input_ids=ids, use_cache=False).logits
        with torch.no_grad():
            teacher = self.teacher(input_ids=ids, use_cache=False).logits
        return GKDTrainer.generalized_jsd_loss(student[:, :-1, :], teacher[:, :-1, :], labels=ids[:, 1:], beta=0.0,
                                               temperature=CONFIG["temperature"])


def opened(driver, threads):
    ours = Ours(driver, threads)
    ours.open(models.smollm2(), teacher=str(teacher_folder()), loss={"plugin": "kd", "config": CONFIG},
              recompute=RECOMPUTE)
    return ours


def step_time(driver, threads, turns):
    batch, tokens = rows(), BATCH * TOKENS
    peer, ours = Peer(threads), opened(driver, threads)
    pairs.equal_losses(peer.train([hf.batches_of(batch)] * 2), ours.train([documents(batch)] * 2))

    def theirs():
        return peer.train([hf.batches_of(batch)])["seconds"][0]

    def mine():
        return ours.train([documents(batch)])["seconds"][0]
    result = pairs.paired(WORK, "s", "transformers, TRL's loss", 0.8, theirs, mine, turns)
    result.lower_is_better = True
    ours.close()
    return result


def memory(driver, threads):
    ours = opened(driver, threads)
    mine = ours.train([documents(rows())] * 3)["peak_bytes"]
    ours.close()
    done = subprocess.run([sys.executable, __file__, str(threads)], check=True, capture_output=True, text=True)
    theirs = int(done.stdout.split()[-1])
    ratio = mine / theirs
    return pairs.Pair(f"peak memory, {WORK}", "MiB", "transformers, TRL's loss", theirs / 2**20, mine / 2**20, ratio,
                      ratio, ratio, 0.5, lower_is_better=True)


if __name__ == "__main__":
    Peer(int(sys.argv[1])).train([hf.batches_of(rows())] * 3)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
