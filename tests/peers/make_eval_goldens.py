#!/usr/bin/env python3
"""tests/golden/eval_loss.jsonl: what TRL's SFTTrainer evaluates on held-back documents.

Usage: make_eval_goldens.py. The documents are those of the first windows of sft_MODEL.jsonl, in one
batch, so that the loss is the mean over all their labels; the weights are the fixture's.
SPDX-License-Identifier: Apache-2.0
"""
import tempfile

import datasets
import oracle
import trl

MODELS = ("llama", "qwen3", "gemma2")
WINDOWS = 3


def held_back(name):
    windows = oracle.read_jsonl(oracle.GOLDEN / f"sft_{name}.jsonl")[1:1 + WINDOWS]
    return [document for window in windows for document in window["documents"]]


def evaluated(name):
    model, tokenizer = oracle.open_model(oracle.FIXTURES / name)
    documents = held_back(name)
    data = datasets.Dataset.from_list([
        {"input_ids": d["ids"],
         "completion_mask": [0] * d["n_prompt"] + [1] * (len(d["ids"]) - d["n_prompt"])}
        for d in documents])
    with tempfile.TemporaryDirectory() as folder:
        config = trl.SFTConfig(output_dir=folder, use_cpu=True, max_length=None, bf16=False, fp16=False,
                               completion_only_loss=True, per_device_eval_batch_size=len(documents),
                               report_to=[])
        trainer = trl.SFTTrainer(model, config, train_dataset=data, eval_dataset=data,
                                 processing_class=tokenizer)
        return trainer.evaluate(), len(documents)


def main():
    lines = []
    for name in MODELS:
        metrics, count = evaluated(name)
        print(name, metrics)
        lines.append({"model": name, "windows": WINDOWS, "documents": count,
                      "eval_loss": metrics["eval_loss"]})
    oracle.write_jsonl(oracle.GOLDEN / "eval_loss.jsonl", lines)


if __name__ == "__main__":
    main()
