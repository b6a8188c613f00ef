#!/usr/bin/env python3
"""Cuts the demo's data from GSM8K's train.jsonl and test.jsonl: short problems, as question,
solution (calculator marks and the final line taken off) and answer (the final number).

Usage: make_data.py GSM8K_FOLDER; writes data/train_subset.jsonl and data/heldback.jsonl.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent / "data"


def records(path, n_max):
    """The first `n_max` problems of at most 180 characters with solutions of at most 220."""
    kept = []
    for line in open(path, encoding="utf-8"):
        record = json.loads(line)
        solution, answer = record["answer"].split("\n#### ")
        solution = re.sub(r"<<[^>]*>>", "", solution).strip()
        if len(record["question"]) <= 180 and len(solution) <= 220 and len(kept) < n_max:
            kept.append({"question": record["question"], "solution": solution, "answer": answer})
    return kept


def main():
    source = pathlib.Path(sys.argv[1])
    for name, n_max, out in (("train.jsonl", 320, "train_subset.jsonl"),
                             ("test.jsonl", 96, "heldback.jsonl")):
        with open(HERE / out, "w", encoding="utf-8") as file:
            for record in records(source / name, n_max):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
