"""A grpo step of SmolLM2 beside TRL's GRPOTrainer with transformers' generation: the same prompts, groups,
lengths and loss; seconds of a step after the first.

SPDX-License-Identifier: Apache-2.0
"""
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import time

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import oracle  # noqa: E402
from bench import models, pairs  # noqa: E402

GROUP, PROMPTS, TOKENS, STEPS = 8, 2, 128, 3
DATA = oracle.FIXTURES / "gsm8k" / "train_small.jsonl"


def trl_seconds(folder, threads):
    """Mean seconds of the steps after the first, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, str(folder), str(threads)], check=True,
                          capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def run_trl(folder, threads):
    import datasets
    import torch
    import transformers
    import trl
    torch.set_num_threads(threads)
    prompts = [json.loads(line)["question"] for line in DATA.read_text().splitlines()[:PROMPTS * STEPS]]
    messages = [{"prompt": [{"role": "user", "content": text}]} for text in prompts]
    ends = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            ends.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as output:
        config = trl.GRPOConfig(
            output_dir=output, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], max_steps=STEPS,
            per_device_train_batch_size=GROUP * PROMPTS, num_generations=GROUP, max_completion_length=TOKENS,
            generation_kwargs={"min_new_tokens": TOKENS}, learning_rate=1e-6, lr_scheduler_type="constant", beta=0.0,
            loss_type="dapo", save_strategy="no", logging_steps=1, disable_tqdm=True)
        trainer = trl.GRPOTrainer(
            model=transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            reward_funcs=lambda completions, **_: [float(len(c[0]["content"]) % 7) for c in completions], args=config,
            train_dataset=datasets.Dataset.from_list(messages), callbacks=[Clock()],
            processing_class=transformers.AutoTokenizer.from_pretrained(folder, padding_side="left"))
        trainer.train()
    return (ends[-1] - ends[0]) / (STEPS - 1)


def retort_seconds(retort, folder, threads):
    with tempfile.TemporaryDirectory() as output:
        pipeline = {
            "retort": 1, "name": "grpo", "threads": threads, "output": str(pathlib.Path(output) / "run"),
            "models": {"m": str(folder)}, "data": {"q": {"path": str(DATA), "map": {"prompt": "question"}}},
            "stages": [{
                "name": "rl", "kind": "grpo", "model": "m", "data": "q", "num_generations": GROUP,
                "prompts_per_step": PROMPTS, "rewards": ["number_match"], "max_steps": STEPS, "logging_steps": 1,
                "save_steps": 0, "learning_rate": 1e-6, "mask_truncated_completions": False, "overlong_buffer": TOKENS,
                "sampling": {"max_tokens": TOKENS, "min_tokens": TOKENS}}]}
        path = pathlib.Path(output) / "pipeline.json"
        path.write_text(json.dumps(pipeline))
        subprocess.run([retort, "run", path], check=True, capture_output=True)
        lines = (pathlib.Path(output) / "run" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    for line in lines[1:]:
        print({k: round(line[k], 2) for k in line if k.endswith("_seconds")}, file=sys.stderr)
    ends = [datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp() for line in lines]
    return (ends[-1] - ends[0]) / (STEPS - 1)


def step(retort, threads, turns):
    folder = models.smollm2_folder(retort)
    tokens = GROUP * PROMPTS * TOKENS
    return pairs.paired(f"grpo step SmolLM2, {PROMPTS} x {GROUP} x {TOKENS} tokens", "tok/s", "TRL", 3.0,
                        lambda: tokens / trl_seconds(folder, threads),
                        lambda: tokens / retort_seconds(retort, folder, threads), turns, warm=0)


if __name__ == "__main__":
    print(run_trl(sys.argv[1], int(sys.argv[2])))
