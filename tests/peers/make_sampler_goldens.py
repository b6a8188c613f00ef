#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/unit/generate/sampler_goldens.txt: what transformers' logits processors keep of
random rows (ties included), in the order of its generate(): bias, repetition penalty, (presence and
frequency, which transformers lacks: OpenAI's formula, below), minimum of new tokens, temperature,
top-k, top-p, min-p.

Format, one case each:
  case <name> <vocab> <temperature> <top_k> <top_p> <min_p> <repetition> <presence> <frequency>
  prompt <n> <id> ...
  completion <n> <id> ...
  bias <n> <id>:<number> ...
  banned <n> <id> ...
  logits <vocab numbers>
  kept <n> <id>:<probability> ...        (in id order)
Run with the peers' venv: python tests/peers/make_sampler_goldens.py
"""
import pathlib
from collections import Counter

import torch
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

# name, vocab, spread, then what differs from the defaults; `step`: logits rounded to it
CASES = [
    ("plain", 40, 1.0, {}),
    ("cold", 300, 2.0, {"temperature": 0.6}),
    ("top_k", 300, 2.0, {"top_k": 12}),
    ("top_k_ties", 300, 2.0, {"temperature": 0.7, "top_k": 12, "step": 0.5}),
    ("top_k_one", 300, 2.0, {"temperature": 1.3, "top_k": 1}),
    ("top_k_all", 40, 1.0, {"top_k": 400}),
    ("top_p", 300, 2.0, {"top_p": 0.7}),
    ("top_p_cold", 300, 3.0, {"temperature": 0.5, "top_p": 0.95}),
    ("top_p_tiny", 300, 2.0, {"top_p": 0.001}),
    ("both", 300, 2.0, {"temperature": 0.8, "top_k": 20, "top_p": 0.8}),
    ("both_p_after_k", 300, 0.3, {"top_k": 10, "top_p": 0.5}),
    ("flat", 64, 0.01, {"top_p": 0.5}),
    ("far", 300, 12.0, {"top_k": 30}),
    ("min_p", 300, 2.0, {"min_p": 0.05}),
    ("min_p_cold", 300, 2.0, {"temperature": 0.7, "min_p": 0.02}),
    ("min_p_hot", 300, 2.0, {"temperature": 2.5, "min_p": 0.3}),
    ("min_p_one", 300, 2.0, {"min_p": 1.0}),
    ("min_p_tiny", 200, 9.0, {"min_p": 1e-9}),
    ("min_p_ties", 300, 2.0, {"min_p": 0.1, "step": 0.25}),
    ("min_p_after_k", 300, 1.0, {"top_k": 15, "min_p": 0.4}),
    ("k_after_min_p", 300, 1.0, {"top_k": 3, "min_p": 0.1}),
    ("min_p_after_p", 300, 2.0, {"top_p": 0.9, "min_p": 0.1}),
    ("p_after_min_p", 300, 2.0, {"top_p": 0.3, "min_p": 0.01}),
    ("repetition", 120, 2.0, {"repetition": 1.3, "seen": (20, 15)}),
    ("repetition_below_one", 120, 2.0, {"repetition": 0.7, "seen": (20, 15)}),
    ("repetition_top_k", 120, 2.0, {"repetition": 1.8, "seen": (60, 30), "top_k": 9}),
    ("presence", 120, 2.0, {"presence": 0.9, "seen": (20, 15)}),
    ("frequency", 120, 2.0, {"frequency": 0.4, "seen": (20, 60)}),
    ("frequency_negative", 120, 2.0, {"frequency": -0.2, "seen": (0, 40)}),
    ("all_penalties", 120, 2.0, {"repetition": 1.2, "presence": 0.5, "frequency": 0.3,
                                 "seen": (30, 60), "temperature": 0.8}),
    ("bias", 120, 2.0, {"bias": {3: 2.5, 77: -4.0, 119: 0.5}}),
    ("bias_then_repetition", 120, 2.0, {"bias": {3: 2.5, 5: -4.0}, "repetition": 1.5,
                                        "seen": (60, 60)}),
    ("bias_forbids", 40, 1.0, {"bias": {i: -100.0 for i in range(30)}}),
    ("banned", 120, 2.0, {"banned": [4, 60, 119], "top_p": 0.6}),
    ("everything", 300, 2.0, {"temperature": 0.9, "top_k": 40, "top_p": 0.9, "min_p": 0.02,
                              "repetition": 1.15, "presence": 0.3, "frequency": 0.1,
                              "bias": {1: 3.0, 200: -2.0}, "banned": [1], "seen": (90, 70)}),
]


def presence_and_frequency(completion, scores, presence, frequency):
    """OpenAI: mu[j] - c[j] * frequency - (c[j] > 0) * presence, c: counts in the completion."""
    scores = scores.clone()
    for i, n in Counter(completion).items():
        scores[0, i] -= n * frequency + presence
    return scores


def processed(logits, prompt, completion, o):
    ids = torch.tensor([prompt + completion])
    scores = logits
    if o.get("bias"):
        pairs = [[[i], b] for i, b in o["bias"].items()]
        scores = SequenceBiasLogitsProcessor(pairs)(ids, scores)
    if "repetition" in o:
        scores = RepetitionPenaltyLogitsProcessor(o["repetition"])(ids, scores)
    scores = presence_and_frequency(completion, scores, o.get("presence", 0),
                                    o.get("frequency", 0))
    if o.get("banned"):
        banned = MinNewTokensLengthLogitsProcessor(len(prompt), len(completion) + 1, o["banned"])
        scores = banned(ids, scores)
    scores = TemperatureLogitsWarper(o.get("temperature", 1.0))(ids, scores)
    if o.get("top_k"):
        scores = TopKLogitsWarper(o["top_k"])(ids, scores)
    if o.get("top_p", 1) < 1:
        scores = TopPLogitsWarper(o["top_p"])(ids, scores)
    if o.get("min_p"):
        scores = MinPLogitsWarper(o["min_p"])(ids, scores)
    return scores


def case(name, vocab, spread, o, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, vocab, generator=generator) * spread
    if "step" in o:
        logits = (logits / o["step"]).round() * o["step"]
    n_prompt, n_completion = o.get("seen", (0, 0))
    draw = lambda n: torch.randint(0, vocab // 2, (n,), generator=generator).tolist()
    prompt, completion = draw(n_prompt), draw(n_completion)
    scores = processed(logits, prompt, completion, o)
    probs = torch.softmax(scores.double(), -1)[0]
    kept = [(i, p) for i, p in enumerate(probs.tolist()) if torch.isfinite(scores[0, i])]
    numbers = [o.get("temperature", 1.0), o.get("top_k", 0), o.get("top_p", 1.0),
               o.get("min_p", 0.0), o.get("repetition", 1.0), o.get("presence", 0.0),
               o.get("frequency", 0.0)]
    yield f"case {name} {vocab} " + " ".join(map(repr, numbers))
    for key, ids in (("prompt", prompt), ("completion", completion)):
        yield " ".join([key, str(len(ids)), *map(str, ids)])
    bias = o.get("bias", {})
    yield " ".join(["bias", str(len(bias)), *(f"{i}:{b!r}" for i, b in bias.items())])
    banned = o.get("banned", [])
    yield " ".join(["banned", str(len(banned)), *map(str, banned)])
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
