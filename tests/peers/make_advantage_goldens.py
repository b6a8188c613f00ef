#!/usr/bin/env python3
"""Advantages by torch in f64, as TRL's GRPOTrainer, RLOOTrainer and PPOTrainer work them out.

Usage: make_advantage_goldens.py > tests/golden/advantages.txt
Lines: `rewards`, then a line per kind; `gae`, `whiten` likewise. SPDX-License-Identifier: Apache-2.0
"""
import torch

torch.set_default_dtype(torch.float64)
G = 4
REWARDS = torch.tensor([1.0, 0, 0, 1, 0.5, 0.25, 2, -1, 3, 3, 3, 3])
SECOND = torch.tensor([0.1, 0.4, 0.2, 0.3, 1, 0, 0, 1, 0.5, 0.7, 0.9, 0.5])


def line(name, x):
    print(name, *(f"{v:.17g}" for v in x.flatten().tolist()))


def normalised(r, eps=1e-4):
    g = r.view(-1, G)
    return ((g - g.mean(1, keepdim=True)) / (g.std(1, keepdim=True) + eps)).flatten()


def centred(r):
    g = r.view(-1, G)
    return (g - g.mean(1, keepdim=True)).flatten()


def loo_std(r, eps=1e-6):
    g = r.view(-1, G)
    out = torch.empty_like(g)
    for i in range(G):
        others = torch.cat([g[:, :i], g[:, i + 1:]], 1)
        a, s = g[:, i] - others.mean(1), others.std(1)
        out[:, i] = torch.where(s > 0, a / (s + eps), a)
    return out.flatten()


def gae(r, v, gamma, lam):
    out, last = torch.zeros_like(r), 0
    for t in reversed(range(len(r))):
        after = v[t + 1] if t + 1 < len(r) else 0
        last = r[t] + gamma * after - v[t] + gamma * lam * last
        out[t] = last
    return out


def main():
    line("rewards", REWARDS)
    line("second", SECOND)
    line("group", normalised(REWARDS))
    line("none", centred(REWARDS))
    line("batch", centred(REWARDS) / (REWARDS.std() + 1e-4))
    g = REWARDS.view(-1, G)
    line("rloo", REWARDS - ((g.sum(1, keepdim=True) - g) / (G - 1)).flatten())
    line("loo_std", loo_std(REWARDS))
    total = 0.7 * normalised(REWARDS) + 0.3 * normalised(SECOND)
    line("gdpo", (total - total.mean()) / (total.std() + 1e-4))
    c = centred(REWARDS)
    line("reinforce_baseline", (c - c.mean()) * c.var(unbiased=False).clamp(min=1e-8).rsqrt())
    values = torch.tensor([0.3, -0.2, 0.9, 0.1, 0.4])
    scores = torch.tensor([0.0, -0.1, 0.05, 0, 1.2])
    line("values", values)
    line("scores", scores)
    line("gae", gae(scores, values, 0.98, 0.9))
    line("whiten", (scores - scores.mean()) * torch.rsqrt(scores.var() + 1e-8))
    line("whiten_keep_mean", (scores - scores.mean()) * torch.rsqrt(scores.var() + 1e-8) + scores.mean())


main()
