#!/usr/bin/env python3
"""Training stages against the same steps in transformers, torch.optim and TRL's losses.

Usage: check_training.py RETORT [CASE ...]; for each case runs a pipeline of 20 steps on the tiny
fixtures, and the same steps in torch: same documents, same batches, AdamW, clipping. Prints the
largest relative difference of loss and of the gradient's norm over the steps; 1 if a loss differs by
more than 1e-3 at any step.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import oracle
import torch
import torch.nn.functional as F
from trl.experimental.gkd import GKDTrainer

TOLERANCE = 1e-3  # relative, of the loss of every step
STEPS, BATCH, RATE = 20, 4, 3e-3
STUDENT, TEACHER = "qwen2", "qwen3"


def cross_entropy(student, _, labels):
    return F.cross_entropy(student, labels, reduction="sum")


def hinton(student, teacher, labels, temperature=3):
    """The default of a distill stage: 0.7 T^2 KL + 0.3 of the labels."""
    kl = F.kl_div(F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1),
                  log_target=True, reduction="sum")
    return 0.7 * temperature**2 * kl + 0.3 * cross_entropy(student, teacher, labels)


def gkd(beta, temperature):
    """TRL's own function, as a sum over tokens."""
    return lambda student, teacher, _: GKDTrainer.generalized_jsd_loss(
        student, teacher, beta=beta, temperature=temperature, reduction="sum")


def kd(**config):
    return [{"plugin": "kd", "config": {"t_squared": False, **config}}]


DISTILL = {"kind": "distill", "teacher": "teacher"}
CASES = {
    "sft": ({"kind": "sft"}, cross_entropy),
    "kd_hinton": (DISTILL, hinton),
    "kd_forward": ({**DISTILL, "loss": kd(temperature=1)}, gkd(0, 1)),
    "kd_reverse": ({**DISTILL, "loss": kd(divergence="reverse_kl", temperature=1)}, gkd(1, 1)),
    "kd_jsd": ({**DISTILL, "loss": kd(divergence="jsd", temperature=0.9)}, gkd(0.5, 0.9)),
}


def write_data(path):
    records = oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl")
    records = [{"prompt": r["question"], "completion": r["answer"]} for r in records]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return records


def ours(retort, stage, folder):
    """Loss and gradient norm of each step."""
    pipeline = {
        "retort": 1, "name": "check", "data": {"d": "data.jsonl"},
        "models": {"student": str(oracle.FIXTURES / STUDENT), "teacher": str(oracle.FIXTURES / TEACHER)},
        "stages": [{**stage, "name": "s", "model": "student", "data": "d", "chat": False, "max_steps": STEPS,
                    "learning_rate": RATE, "schedule": "constant", "packing": "none", "shuffle": False,
                    "batch": {"per_device": BATCH}, "max_length": 1024, "logging_steps": 1,
                    "optimizer": {"plugin": "adamw", "config": {"weight_decay": 0.01}}}]}
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    subprocess.run([retort, "run", folder / "pipeline.json", "--quiet", "--set", f"output={folder}/run"], check=True,
                   stdout=subprocess.DEVNULL)
    lines = oracle.read_jsonl(folder / "run" / "metrics.jsonl")
    return [(line["loss"], line["grad_norm"]) for line in lines]


def documents(records, tokenizer):
    """Ids of prompt and completion encoded apart, with the end of text; length of the prompt."""
    for record in records:
        prompt = tokenizer(record["prompt"]).input_ids
        completion = tokenizer(record["completion"], add_special_tokens=False).input_ids
        yield prompt + completion + [tokenizer.eos_token_id], len(prompt)


def groups(model):
    """As transformers' Trainer: norms and biases don't decay."""
    decays = [p for n, p in model.named_parameters() if p.ndim > 1]
    return [{"params": decays, "weight_decay": 0.01},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]


def theirs(records, loss_of):
    student, tokenizer = oracle.open_model(oracle.FIXTURES / STUDENT)
    teacher, _ = oracle.open_model(oracle.FIXTURES / TEACHER)
    optimizer = torch.optim.AdamW(groups(student), lr=RATE, betas=(0.9, 0.999), eps=1e-8)
    docs = list(documents(records, tokenizer))
    assert len(docs) % BATCH == 0, "the last batch of an epoch would be smaller"
    steps = []
    for step in range(STEPS):
        at = step * BATCH % len(docs)
        batch = docs[at:at + BATCH]
        n_labels = sum(len(ids) - n_prompt for ids, n_prompt in batch)
        optimizer.zero_grad()
        total = 0.0
        for ids, n_prompt in batch:
            inputs = torch.tensor([ids])
            rows = slice(n_prompt - 1, len(ids) - 1)
            with torch.no_grad():
                teacher_rows = teacher(inputs).logits[0, rows]
            loss = loss_of(student(inputs).logits[0, rows], teacher_rows, inputs[0, n_prompt:]) / n_labels
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0).item()
        optimizer.step()
        steps.append((total, norm))
    return steps


def check(retort, name):
    stage, loss_of = CASES[name]
    with tempfile.TemporaryDirectory(prefix="retort-training-") as scratch:
        folder = pathlib.Path(scratch)
        records = write_data(folder / "data.jsonl")
        a, b = ours(retort, stage, folder), theirs(records, loss_of)
    assert len(a) == len(b) == STEPS, (len(a), len(b))
    loss = max(abs(x[0] - y[0]) / abs(y[0]) for x, y in zip(a, b))
    norm = max(abs(x[1] - y[1]) / abs(y[1]) for x, y in zip(a, b))
    good = loss <= TOLERANCE
    print(f"{name:12} loss {b[0][0]:.5f} -> {b[-1][0]:.5f}, relative difference of a step at most: "
          f"loss {loss:.1e}, gradient norm {norm:.1e}{'' if good else '  TOO LARGE'}", flush=True)
    return good


def main():
    retort, *names = sys.argv[1:]
    torch.manual_seed(0)
    results = [check(retort, name) for name in names or CASES]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
