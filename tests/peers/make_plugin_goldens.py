#!/usr/bin/env python3
"""Reference numbers for the sft loss and the adamw optimizer from torch: cross-entropy with its
gradient, TRL's entropy and accuracy, 20 steps of torch.optim.AdamW.

Usage: make_plugin_goldens.py       writes tests/golden/plugin_{sft,adamw}.txt
Inputs are dyadic rationals from a small generator, the same in the C++ tests: nothing but results
is stored.
SPDX-License-Identifier: Apache-2.0
"""
import pathlib

import torch
import torch.nn.functional as F

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
HEADER = "# SPDX-License-Identifier: Apache-2.0\n# Made by tests/peers/make_plugin_goldens.py with torch {}.\n"


class Sequence:
    """A linear congruential generator; multiples of 1/1024 in [-4, 4)."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return ((self.state >> 8) % 8192 - 4096) / 1024

    def tensor(self, *shape):
        n = torch.Size(shape).numel()
        return torch.tensor([self.next() for _ in range(n)], dtype=torch.float64).reshape(shape)


def write(name, lines):
    text = HEADER.format(torch.__version__.split("+")[0]) + "\n".join(lines) + "\n"
    (GOLDEN / name).write_text(text)


def sft_case(name, rows, vocab, smoothing, z_loss, dft):
    numbers = Sequence(rows * 1000 + vocab)
    z = numbers.tensor(rows, vocab).requires_grad_()
    labels = torch.tensor([(7 * r + 3) % vocab for r in range(rows)])
    weight = torch.tensor([[1.0, 0.5, 0.0, -0.25][r % 4] for r in range(rows)], dtype=torch.float64)
    loss = F.cross_entropy(z, labels, reduction="none", label_smoothing=smoothing)
    loss = loss + z_loss * torch.logsumexp(z, -1) ** 2
    if dft:
        loss = loss * torch.exp(-loss).detach()
    (loss * weight).sum().backward()
    logp = torch.log_softmax(z, -1)
    entropy = -(logp.exp() * logp).sum(-1)
    accuracy = (z.argmax(-1) == labels).double()
    yield f"case {name} {rows} {vocab} {smoothing} {z_loss} {int(dft)}"
    for r in range(rows):
        row = [loss[r].detach(), entropy[r].detach(), accuracy[r], z.grad[r].abs().sum(), z.grad[r, labels[r]], z.grad[r, 0]]
        yield " ".join(repr(float(x)) for x in row)


def adamw_lines():
    numbers = Sequence(11)
    w = torch.nn.Parameter(numbers.tensor(7).float())
    b = torch.nn.Parameter(numbers.tensor(3).float())
    groups = [{"params": [w], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-6)
    for step in range(20):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + step % 3)
        for p in (w, b):
            p.grad = numbers.tensor(*p.shape).float() * 0.25  # 0.25: a clipping factor
        optimizer.step()
        yield " ".join(repr(float(x)) for x in torch.cat([w, b]).detach())


def main():
    cases = [("plain", 5, 11, 0.0, 0.0, False), ("smoothed", 4, 37, 0.1, 0.0, False),
             ("z_loss", 4, 64, 0.0, 0.01, False), ("both", 6, 257, 0.2, 0.001, False), ("dft", 5, 33, 0.0, 0.0, True)]
    write("plugin_sft.txt", [line for case in cases for line in sft_case(*case)])
    write("plugin_adamw.txt", adamw_lines())


if __name__ == "__main__":
    main()
