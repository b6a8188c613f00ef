#!/usr/bin/env python3
"""Reward models of retort beside transformers, TRL and peft, on the tiny qwen2: 20 steps of a reward_model
stage replayed with the loss of RewardTrainer and torch's AdamW, whole and as an adapter that peft began;
then the scores of what each stage wrote, and of base and adapter merged.

Usage: check_reward_model.py RETORT [--steps 20]
Prints a table; exits 1 where a loss is more than 1e-3 (relative, floor 1e-2) or a score more than 1e-4 off.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import collections
import json
import pathlib
import shutil
import subprocess
import tempfile
import types

import oracle
import peft
import safetensors.torch
import torch
import transformers
from trl.trainer.reward_trainer import RewardTrainer

PAIRS, RATE, CENTER, WIDTH = 4, 1e-3, 0.01, 32


def run(*command, **more):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **more).stdout


def make_base(folder):
    """The fixture with a value head beside its LM head: both sides start from the same one."""
    shutil.copytree(oracle.FIXTURES / "qwen2", folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    torch.manual_seed(1)
    weights["score.weight"] = torch.randn(1, WIDTH) * 0.2
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def open_scorer(folder):
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=torch.float32, output_loading_info=True)
    model.config.pad_token_id = model.config.vocab_size - 1  # of no text here
    missing = set(info["missing_keys"])
    if missing:
        raise SystemExit(f"{folder}: transformers misses {missing}")
    return model.eval()


def make_adapter(base, folder):
    torch.manual_seed(2)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="SEQ_CLS",
                             modules_to_save=["score"], exclude_modules=["score"])
    model = peft.get_peft_model(open_scorer(base), config)
    for name, param in model.named_parameters():
        if "lora_B" in name:  # of zeros, A would get no gradient at first
            torch.nn.init.normal_(param, std=0.05)
    model.save_pretrained(folder)
    return folder


def write_pairs(path):
    rows = []
    for i, record in enumerate(oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl")):
        words = record["answer"].split()
        rows.append({"prompt": record["question"], "chosen": " ".join(words[:6 + i % 5]),
                     "rejected": " ".join(reversed(words[:9 + i % 3]))})
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return rows


def train(retort, folder, model, lora, steps):
    """(loss, gradient norm) of each step; the last checkpoint."""
    stage = {"name": "rm", "kind": "reward_model", "model": "m", "data": "d", "chat": False, "max_length": 1024,
             "max_steps": steps, "learning_rate": RATE, "schedule": "constant", "shuffle": False, "packing_window": 1,
             "batch": {"per_device": PAIRS}, "logging_steps": 1, "save_steps": 0,
             "loss": [{"plugin": "bradley_terry", "config": {"center_rewards_coefficient": CENTER}}],
             "optimizer": {"plugin": "adamw", "config": {"weight_decay": 0}}} | lora
    (folder / "p.json").write_text(json.dumps({
        "retort": 1, "name": "rm", "models": {"m": model}, "data": {"d": "pairs.jsonl"}, "stages": [stage]}))
    run(retort, "run", folder / "p.json", "--quiet", "--set", f"output={folder}/run")
    lines = oracle.read_jsonl(folder / "run" / "metrics.jsonl")
    return [(line["loss"], line["grad_norm"]) for line in lines], folder / "run" / "rm" / f"checkpoint-{steps}"


def encode(tokenizer, row, which):
    plain = tokenizer(row[which], add_special_tokens=False).input_ids
    return tokenizer(row["prompt"]).input_ids + plain + [tokenizer.eos_token_id]


def batch_of(texts, pad):
    width = max(map(len, texts))
    return {"input_ids": torch.tensor([t + [pad] * (width - len(t)) for t in texts]),
            "attention_mask": torch.tensor([[1] * len(t) + [0] * (width - len(t)) for t in texts])}


def replay(model, tokenizer, rows, steps):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0)
    self = types.SimpleNamespace(
        model=model, args=types.SimpleNamespace(center_rewards_coefficient=CENTER), _total_train_tokens=0, _tp_size=1,
        _metrics={"train": collections.defaultdict(list), "eval": collections.defaultdict(list)},
        accelerator=types.SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x))
    per_epoch = len(rows) // PAIRS
    for step in range(steps):
        begin = step % per_epoch * PAIRS
        chosen_rejected = [encode(tokenizer, row, which) for which in ("chosen", "rejected")
                           for row in rows[begin:begin + PAIRS]]
        loss = RewardTrainer.compute_loss(self, model, batch_of(chosen_rejected, model.config.pad_token_id))
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        yield loss.item(), norm.item()


def score(retort, folder, tokenizer, rows):
    """What `retort score` says of the texts, the ids given."""
    lines = ""
    for row in rows:
        prompt = tokenizer(row["prompt"]).input_ids
        completion = encode(tokenizer, row, "chosen")[len(prompt):]
        lines += json.dumps({"prompt": row["prompt"], "completion": row["chosen"], "prompt_ids": prompt,
                             "completion_ids": completion, "finish": "stop"}) + "\n"
    entry = json.dumps({"model": str(folder), "name": "rm"})
    out = run(retort, "score", "--reward", entry, input=lines)
    return [json.loads(line)["rewards"]["rm"] for line in out.splitlines()]


def worst_score(retort, folder, model, tokenizer, rows):
    """Largest difference to transformers, which scores the texts in one padded batch."""
    texts = [encode(tokenizer, row, "chosen") for row in rows]
    with torch.no_grad():
        want = model(**batch_of(texts, model.config.pad_token_id)).logits[:, 0].tolist()
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(score(retort, folder, tokenizer, rows), want, strict=True))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("retort", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    retort, failed = args.retort.resolve(), False
    print("| reward model | steps | loss | gradient norm | score |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        base = make_base(root / "base")
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        for kind in ("whole", "adapter"):
            folder = root / kind
            folder.mkdir()
            rows = write_pairs(folder / "pairs.jsonl")
            rows = rows[:len(rows) // PAIRS * PAIRS]
            (folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
            start, lora, peer = str(base), {}, open_scorer(base)
            if kind == "adapter":
                adapter = make_adapter(base, root / "peft")
                start = {"path": str(base), "adapter": str(adapter)}
                lora = {"lora": {"r": 4, "alpha": 8}}
                peer = peft.PeftModel.from_pretrained(peer, adapter, is_trainable=True)
            metrics, last = train(retort, folder, start, lora, args.steps)
            worst = [0.0, 0.0]
            for ours, theirs in zip(metrics, replay(peer, tokenizer, rows, args.steps), strict=True):
                for i in (0, 1):
                    worst[i] = max(worst[i], abs(ours[i] - theirs[i]) / max(abs(theirs[i]), 1e-2))
            written = open_scorer(last) if kind == "whole" else peft.PeftModel.from_pretrained(open_scorer(base), last)
            off = worst_score(retort, last, written.eval(), tokenizer, rows)
            print(f"| {kind} | {len(metrics)} | {worst[0]:.1e} | {worst[1]:.1e} | {off:.1e} |", flush=True)
            failed |= worst[0] > 1e-3 or off > 1e-4
        merged = root / "merged"
        run(retort, "model", "merge", base, last, merged)
        off = worst_score(retort, merged, open_scorer(merged), tokenizer, rows)
        print(f"| adapter merged | | | | {off:.1e} |")
        failed |= off > 1e-4
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
