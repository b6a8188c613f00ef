#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/unit/generate/sampler_goldens.txt: what transformers' logits processors keep of
random rows (ties included), in the order of its generate(): temperature, top-k, top-p.

Format, one case each:
  case <name> <vocab> <temperature> <top_k> <top_p>
  logits <vocab numbers>
  kept <n> <id>:<probability> ...        (in id order)
Run with the peers' venv: python tests/peers/make_sampler_goldens.py
"""
import pathlib

import torch
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

CASES = [  # name, vocab, spread, temperature, top_k, top_p, logits rounded to this step (0: no)
    ("plain", 40, 1.0, 1.0, 0, 1.0, 0),
    ("cold", 300, 2.0, 0.6, 0, 1.0, 0),
    ("top_k", 300, 2.0, 1.0, 12, 1.0, 0),
    ("top_k_ties", 300, 2.0, 0.7, 12, 1.0, 0.5),
    ("top_k_one", 300, 2.0, 1.3, 1, 1.0, 0),
    ("top_k_all", 40, 1.0, 1.0, 400, 1.0, 0),
    ("top_p", 300, 2.0, 1.0, 0, 0.7, 0),
    ("top_p_cold", 300, 3.0, 0.5, 0, 0.95, 0),
    ("top_p_tiny", 300, 2.0, 1.0, 0, 0.001, 0),
    ("both", 300, 2.0, 0.8, 20, 0.8, 0),
    ("both_p_after_k", 300, 0.3, 1.0, 10, 0.5, 0),
    ("flat", 64, 0.01, 1.0, 0, 0.5, 0),
    ("far", 300, 12.0, 1.0, 30, 1.0, 0),
]


def case(name, vocab, spread, temperature, top_k, top_p, step, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, vocab, generator=generator) * spread
    if step:
        logits = (logits / step).round() * step
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    probs = torch.softmax(scores.double(), -1)[0]
    kept = [(i, p) for i, p in enumerate(probs.tolist()) if torch.isfinite(scores[0, i])]
    yield f"case {name} {vocab} {temperature!r} {top_k} {top_p!r}"
    yield "logits " + " ".join(f"{x:.9g}" for x in logits[0].tolist())
    yield f"kept {len(kept)} " + " ".join(f"{i}:{p:.9g}" for i, p in kept)


def main():
    lines = []
    for seed, args in enumerate(CASES):
        lines += case(*args, seed)
    root = pathlib.Path(__file__).resolve().parents[2]
    path = root / "tests/unit/generate/sampler_goldens.txt"
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
