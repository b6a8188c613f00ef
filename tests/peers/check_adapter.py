#!/usr/bin/env python3
"""An adapter trained by retort opens in transformers + peft and says the same as in retort.

Usage: check_adapter.py RETORT [MODEL ...]; for each fixture (default: qwen3, phi3, gemma2) trains
three LoRA steps, opens the checkpoint with PeftModel.from_pretrained, and compares token ids and
per-token log-probabilities of the golden texts, with the adapter and without. Then the same of the
model that `retort model merge` makes of it. Prints the differences; 1 if one is too large.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import oracle
import peft

TOLERANCE = 1e-4  # of any token, with weights in f32 on both sides
LORA = {"r": 4, "alpha": 16, "dropout": 0.1, "use_rslora": True, "targets": "all-linear",
        "rank_pattern": {"layers.1.mlp.down_proj": 2}}


def train(retort, model, folder):
    """Runs a one-stage pipeline of three steps; the checkpoint's folder."""
    records = oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl")[:12]
    with open(folder / "data.jsonl", "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps({"prompt": record["question"], "completion": record["answer"]}) + "\n")
    pipeline = {
        "retort": 1, "name": "three-steps", "models": {"m": str(model)}, "data": {"d": "data.jsonl"},
        "stages": [{"name": "sft", "kind": "sft", "model": "m", "data": "d", "max_steps": 3,
                    "lora": LORA, "learning_rate": 2e-2, "schedule": "constant", "packing": "none",
                    "batch": {"per_device": 2, "accumulation": 2}, "max_length": 1024}]}
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    subprocess.run([retort, "run", folder / "pipeline.json", "--set", f"output={folder}/run"],
                   check=True, stdout=subprocess.DEVNULL)
    found = sorted((folder / "run" / "sft").glob("checkpoint-*"))
    assert found, list((folder / "run" / "sft").iterdir())
    return found[-1]


def logprobs_of(retort, *arguments):
    texts = oracle.GOLDEN / "texts.jsonl"
    out = subprocess.run([retort, "logprob", *arguments, "--storage", "f32", "--input", texts],
                         check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def worst_difference(lines, model, tokenizer):
    worst = 0.0
    for line, record in zip(lines, oracle.read_jsonl(oracle.GOLDEN / "texts.jsonl"), strict=True):
        ids = tokenizer(record["text"]).input_ids
        assert ids == line["ids"], "token ids differ"
        theirs = oracle.logprobs(model, ids)
        worst = max(worst, *(abs(a - b) for a, b in zip(line["logprob"], theirs, strict=True)))
    return worst


def check(retort, name):
    path = oracle.FIXTURES / name
    with tempfile.TemporaryDirectory(prefix="retort-adapter-") as scratch:
        checkpoint = train(retort, path, pathlib.Path(scratch))
        model, tokenizer = oracle.open_model(path)
        base = logprobs_of(retort, path)
        alone = worst_difference(base, model, tokenizer)
        adapted = peft.PeftModel.from_pretrained(model, checkpoint).eval()
        beside = worst_difference(logprobs_of(retort, path, "--adapter", checkpoint), adapted, tokenizer)
        named = worst_difference(logprobs_of(retort, checkpoint), adapted, tokenizer)
        effect = worst_difference(base, adapted, tokenizer)
        merged = pathlib.Path(scratch) / "merged"
        subprocess.run([retort, "model", "merge", path, checkpoint, merged, "--type", "f32"],
                       check=True, stdout=subprocess.DEVNULL)
        whole = worst_difference(logprobs_of(retort, merged), adapted, tokenizer)
    print(f"{name}: worst difference of a log-probability: base {alone:.3g}, with the adapter "
          f"{beside:.3g}, by its folder {named:.3g}, merged {whole:.3g}; the adapter's effect {effect:.3g}")
    return max(alone, beside, named, whole) <= TOLERANCE and effect > 0.1


def main():
    retort = pathlib.Path(sys.argv[1]).resolve()
    names = sys.argv[2:] or ["qwen3", "phi3", "gemma2"]
    return 0 if all([check(retort, name) for name in names]) else 1


if __name__ == "__main__":
    sys.exit(main())
