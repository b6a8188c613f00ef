#!/usr/bin/env python3
"""TRL's own trainers beside retort's stages, 20 steps from the same fixture on the same data: SFTTrainer and
GKDTrainer read the same lines, GRPOTrainer is given the completions and rewards that retort recorded. Loss and
gradient norm of every step must agree. What the trainers have no setting for is replayed in check_training.py
and check_policy_training.py.

Usage: check_trainers.py RETORT [sft | gkd | grpo ...]
Prints a table; exits 1 where a loss is more than 1e-3 (relative, floor 1e-2) off.
SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import sys
import tempfile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import check_policy_training as policy  # noqa: E402
import check_training as training  # noqa: E402
import datasets  # noqa: E402
import oracle  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from trl.experimental.gkd import GKDConfig, GKDTrainer  # noqa: E402

datasets.disable_progress_bars()
TOLERANCE = 1e-3


def arguments(kind, folder, **more):
    """Of a trainer: what retort's stages do, and nothing beside."""
    return kind(output_dir=str(folder / "trl"), max_steps=training.STEPS, lr_scheduler_type="constant",
                optim="adamw_torch", max_grad_norm=1.0, logging_steps=1, save_strategy="no", report_to="none",
                use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, **more)


def curve(trainer):
    """(loss, gradient norm) of each step."""
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return [(line["loss"], line["grad_norm"]) for line in trainer.state.log_history if "grad_norm" in line]


def of_sft(kind, folder, **more):
    return arguments(kind, folder, learning_rate=training.RATE, weight_decay=0.01, max_length=1024,
                     per_device_train_batch_size=training.BATCH, train_sampling_strategy="sequential", **more)


def sft(retort, folder):
    """Prompts and completions as text: TRL's tokenization and its choice of trained tokens count too."""
    records = training.write_data(folder / "data.jsonl")
    model, tokenizer = oracle.open_model(oracle.FIXTURES / training.STUDENT)
    trainer = trl.SFTTrainer(model, of_sft(trl.SFTConfig, folder), train_dataset=datasets.Dataset.from_list(records),
                             processing_class=tokenizer)
    return training.ours(retort, {"kind": "sft"}, folder), curve(trainer)


def gkd(retort, folder):
    """The generalised JSD of whole rows beside an online teacher; TRL's loss takes no temperature."""
    records = training.write_data(folder / "data.jsonl")
    model, tokenizer = oracle.open_model(oracle.FIXTURES / training.STUDENT)
    teacher, _ = oracle.open_model(oracle.FIXTURES / training.TEACHER)

    def collate(rows):
        pad = torch.nn.utils.rnn.pad_sequence
        ids = [torch.tensor(row["ids"]) for row in rows]
        labels = [torch.where(torch.arange(len(i)) < row["n_prompt"], -100, i)
                  for i, row in zip(ids, rows, strict=True)]
        return {"input_ids": pad(ids, True, tokenizer.pad_token_id or 0),
                "attention_mask": pad([torch.ones_like(i) for i in ids], True, 0),
                "labels": pad(labels, True, -100)}

    documents = [{"ids": ids, "n_prompt": n} for ids, n in training.documents(records, tokenizer)]
    trainer = GKDTrainer(model, teacher, of_sft(GKDConfig, folder, beta=0.5, lmbda=0.0), data_collator=collate,
                         train_dataset=datasets.Dataset.from_list(documents), processing_class=tokenizer)
    stage = {**training.DISTILL, "loss": training.kd(divergence="jsd", jsd_beta=0.5, temperature=1)}
    return training.ours(retort, stage, folder), curve(trainer)


def grpo(retort, folder):
    """Groups, advantages, old and reference log-probabilities, two updates a round: all of it TRL's."""
    config = {"loss_type": "grpo", "beta": 0.05, "use_bias_correction_kl": True}
    start = oracle.FIXTURES / "qwen2"
    rounds, metrics = policy.run_retort(retort, folder, start, policy.grpo_stage(config), training.STEPS)
    model, tokenizer = oracle.open_model(start)
    samples = [sample for one in rounds for sample in one]
    waiting = iter(rounds)
    current = []

    def recorded(prompts, _trainer):
        current[:] = next(waiting)
        assert [s["prompt"] for s in current] == prompts, "TRL asks for other prompts"
        return {"prompt_ids": [s["prompt_ids"] for s in current],
                "completion_ids": [s["completion_ids"] for s in current], "logprobs": None}

    args = arguments(trl.GRPOConfig, folder, learning_rate=policy.RATE, weight_decay=0.0, shuffle_dataset=False,
                     per_device_train_batch_size=policy.GROUP * policy.PROMPTS, num_generations=policy.GROUP,
                     num_iterations=policy.ITERATIONS, max_completion_length=policy.MAX_TOKENS,
                     temperature=policy.TEMPERATURE, mask_truncated_completions=False, **config)
    trainer = trl.GRPOTrainer(
        str(start), lambda **_: [s["reward"] for s in current], args, processing_class=tokenizer,
        train_dataset=datasets.Dataset.from_list([{"prompt": s["prompt"]} for s in samples[::policy.GROUP]]),
        rollout_func=recorded)
    return [(line["loss"], line["grad_norm"]) for line in metrics], curve(trainer)


CASES = {"sft": sft, "gkd": gkd, "grpo": grpo}


def main():
    retort, *names = sys.argv[1:]
    failed = False
    print("| trainer | loss | largest relative difference of a step's losses | of gradient norms |\n|---|---|---|---|")
    for name in names or CASES:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory(prefix="retort-trainers-") as scratch:
            ours, theirs = CASES[name](str(pathlib.Path(retort).resolve()), pathlib.Path(scratch))
        assert len(ours) == len(theirs) == training.STEPS, (len(ours), len(theirs))
        loss, norm = (max(abs(a[i] - b[i]) / max(abs(b[i]), 1e-2) for a, b in zip(ours, theirs, strict=True))
                      for i in (0, 1))
        print(f"| {name} | {theirs[0][0]:.5f} to {theirs[-1][0]:.5f} | {loss:.1e} | {norm:.1e} |", flush=True)
        failed |= loss > TOLERANCE
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
