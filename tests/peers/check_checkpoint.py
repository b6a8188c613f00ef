#!/usr/bin/env python3
"""A checkpoint written by retort opens in transformers and says the same as in retort.

Usage: check_checkpoint.py RETORT [MODEL]; trains two SFT steps on a fixture (or MODEL: a name of
the fixtures, or smollm2), opens the checkpoint with from_pretrained, and compares token ids and
per-token log-probabilities of the golden texts. Prints the differences; 1 if one is too large.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import oracle

TOLERANCE = 2e-4  # mean over tokens, as for the model the run began with


def train(retort, model, folder):
    """Runs a one-stage pipeline of two steps; the checkpoint's folder."""
    records = oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl")[:8]
    with open(folder / "data.jsonl", "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps({"prompt": record["question"], "completion": record["answer"]}) + "\n")
    pipeline = {
        "retort": 1, "name": "two-steps", "models": {"m": str(model)}, "data": {"d": "data.jsonl"},
        "stages": [{"name": "sft", "kind": "sft", "model": "m", "data": "d", "max_steps": 2,
                    "learning_rate": 1e-4, "batch": {"per_device": 1, "accumulation": 2},
                    "packing": "none", "max_length": 1024}]}
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    subprocess.run([retort, "run", folder / "pipeline.json", "--set", f"output={folder}/run"],
                   check=True)
    found = sorted((folder / "run" / "sft").glob("checkpoint-*"))
    assert found, list((folder / "run" / "sft").iterdir())
    return found[-1]


def compare(retort, checkpoint):
    texts = oracle.GOLDEN / "texts.jsonl"
    out = subprocess.run([retort, "logprob", checkpoint, "--input", texts], check=True,
                         capture_output=True, text=True).stdout
    ours = [json.loads(line) for line in out.splitlines()]
    model, tokenizer = oracle.open_model(checkpoint)
    total, worst, count = 0.0, 0.0, 0
    for line, record in zip(ours, oracle.read_jsonl(texts), strict=True):
        ids = tokenizer(record["text"]).input_ids
        assert ids == line["ids"], "token ids differ"
        for a, b in zip(line["logprob"], oracle.logprobs(model, ids), strict=True):
            total, worst, count = total + abs(a - b), max(worst, abs(a - b)), count + 1
    return total / count, worst, count


def main():
    retort = pathlib.Path(sys.argv[1]).resolve()
    name = sys.argv[2] if len(sys.argv) > 2 else "qwen3"
    model = oracle.smollm2_path() if name == "smollm2" else oracle.FIXTURES / name
    with tempfile.TemporaryDirectory(prefix="retort-checkpoint-") as scratch:
        checkpoint = train(retort, model, pathlib.Path(scratch))
        mean, worst, count = compare(retort, checkpoint)
    print(f"{name}: {count} tokens, mean |difference| {mean:.3g}, max {worst:.3g}")
    return 0 if mean <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
