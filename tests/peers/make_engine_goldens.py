#!/usr/bin/env python3
"""Writes what the engine's unit tests compare with, from transformers:
  tests/unit/train/schedules.golden  steps, warm-up, decay and name, then one learning-rate factor a line
  tests/unit/graph/rope.golden       name, attention factor, then one inverse frequency a line
SPDX-License-Identifier: Apache-2.0
"""
import pathlib

import torch
import transformers
from transformers import optimization
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

UNIT = pathlib.Path(__file__).resolve().parents[1] / "unit"
# Steps, those of warm-up, those of wsd's decay.
RUNS = [(20, 4, 6), (20, 0, 2), (1, 0, 1), (1, 1, 0), (5, 5, 0), (7, 6, 1)]


def factors(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer)
    values = [schedule.get_last_lr()[0]]
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
        values.append(schedule.get_last_lr()[0])
    return values


def schedules(steps, warmup, decay):
    o = optimization
    warm = {"num_warmup_steps": warmup}
    whole = {**warm, "num_training_steps": steps}
    wsd = {**whole, "num_decay_steps": decay, "min_lr_ratio": 0.1}
    yield "constant", lambda x: o.get_constant_schedule(x)
    yield "constant_with_warmup", lambda x: o.get_constant_schedule_with_warmup(x, **warm)
    yield "linear", lambda x: o.get_linear_schedule_with_warmup(x, **whole)
    yield "cosine", lambda x: o.get_cosine_schedule_with_warmup(x, **whole)
    yield "cosine_with_restarts", lambda x: o.get_cosine_with_hard_restarts_schedule_with_warmup(
        x, num_cycles=3, **whole)
    yield "cosine_with_min_lr", lambda x: o.get_cosine_with_min_lr_schedule_with_warmup(
        x, min_lr_rate=0.1, **whole)
    yield "polynomial", lambda x: o.get_polynomial_decay_schedule_with_warmup(
        x, lr_end=0.1, power=2.0, **whole)
    yield "inverse_sqrt", lambda x: o.get_inverse_sqrt_schedule(x, **warm)
    yield "wsd cosine", lambda x: o.get_wsd_schedule(x, decay_type="cosine", **wsd)
    yield "wsd linear", lambda x: o.get_wsd_schedule(x, decay_type="linear", **wsd)
    yield "wsd 1-sqrt", lambda x: o.get_wsd_schedule(x, decay_type="1-sqrt", **wsd)


def all_schedules():
    for run in RUNS:
        for name, make in schedules(*run):
            yield " ".join(map(str, (*run, name))), factors(make, run[0])


ROPES = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 1024},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
    "yarn untruncated": {"rope_type": "yarn", "factor": 4.0, "truncate": False, "beta_fast": 16.0,
                         "original_max_position_embeddings": 2048, "attention_factor": 1.5},
    "yarn mscale": {"rope_type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7,
                    "original_max_position_embeddings": 1024},
    "yarn by positions": {"rope_type": "yarn", "factor": None,
                          "original_max_position_embeddings": 1024},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "longrope": {"rope_type": "longrope", "short_factor": [1 + j / 100 for j in range(16)],
                 "long_factor": [2 + j / 4 for j in range(16)],
                 "original_max_position_embeddings": 1024},
    "longrope with factor": {"rope_type": "longrope", "short_factor": [1.25] * 16,
                             "long_factor": [4.5] * 16, "factor": 16.0,
                             "original_max_position_embeddings": 512},
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.3, "factor": 2.0},
}
# Lengths of texts at which a rule is asked beside None, for short texts; 8192 positions are the
# model's own.
LENGTHS = {"dynamic": (8192, 8193, 20000), "longrope": (1024, 1025)}


def rope(parameters, length=None):
    config = transformers.LlamaConfig(
        hidden_size=64, num_attention_heads=2, max_position_embeddings=8192,
        rope_parameters={"rope_theta": 10000.0, **parameters})
    if parameters["rope_type"] == "default":
        inv_freq, factor = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(
            config).inv_freq, 1.0
    else:
        inv_freq, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=length)
    return [factor, *inv_freq.tolist()]


def ropes():
    for name, parameters in ROPES.items():
        yield name, rope(parameters)
        for length in LENGTHS.get(name, ()):
            yield f"{name} at {length}", rope(parameters, length)


def write(path, cases):
    lines = []
    for name, values in cases:
        lines += [f"# {name}", *(repr(float(v)) for v in values)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(UNIT / "train" / "schedules.golden", all_schedules())
    write(UNIT / "graph" / "rope.golden", ropes())
