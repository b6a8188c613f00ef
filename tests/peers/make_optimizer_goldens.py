#!/usr/bin/env python3
"""Writes tests/golden/optimizers.jsonl: params after 50 steps of each optimizer's oracle.

One case a line: the plugin with its config, learning rates, decays, and of each tensor every
`stride`-th element at the end. Oracles: torch.optim (AdamW, SGD, Muon, Adafactor),
transformers.optimization.Adafactor, bitsandbytes (AdamW8bit, Lion32bit on the CPU), and Lion's,
Muon's and the 8-bit AdamW's formulas written here. Gradients are random/4 + param/2, so errors feed back.
SPDX-License-Identifier: Apache-2.0
"""
import contextlib
import io
import math

import torch
import torch.nn.functional as F
import transformers

import oracle
from make_plugin_goldens import Sequence

with contextlib.redirect_stderr(io.StringIO()):
    import bitsandbytes

STEPS = 50
MATRIX, BIAS, EXPERT = 1, 1 << 4, 1 << 5  # RETORT_ROLE_*
SMALL = [("hidden", [12, 20], MATRIX, 0, 3), ("tall", [24, 10], MATRIX, 0, 3),
         ("experts", [2, 6, 10], EXPERT, 0, 3), ("bias", [7], BIAS, 1, 1)]
LARGE = [("large", [70, 64], MATRIX, 0, 16), ("bias", [7], BIAS, 1, 1)]


class LionReference(torch.optim.Optimizer):
    """Algorithm 2 of arXiv 2302.06675."""

    def __init__(self, groups, lr, betas):
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                c = b1 * m + (1 - b1) * p.grad
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.sign(c))
                m.copy_(b2 * m + (1 - b2) * p.grad)


class MuonReference(torch.optim.Optimizer):
    """torch.optim.Muon's formula in the params' own precision; AdamW for vectors."""

    def __init__(self, groups, lr, adjust, nesterov):
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.adjust, self.nesterov = adjust, nesterov

    @staticmethod
    def orthogonal(u, a=3.4445, b=-4.775, c=2.0315):
        x = u.mT if u.shape[-2] > u.shape[-1] else u
        x = x / x.norm().clamp(min=1e-7)
        for _ in range(5):
            y = x @ x.mT
            x = a * x + (b * y + c * y @ y) @ x
        return x.mT if u.shape[-2] > u.shape[-1] else x

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 0.05)
                u = p.grad.lerp(m, 0.95) if self.nesterov else m.clone()
                rows, cols = p.shape[-2:]
                factor = 0.2 * math.sqrt(max(rows, cols)) if self.adjust == "match_rms_adamw" \
                    else math.sqrt(max(1, rows / cols))
                update = torch.stack([self.orthogonal(x) for x in u.reshape(-1, rows, cols)])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * factor * update.reshape(p.shape))


class AdamW8Reference(torch.optim.Optimizer):
    """AdamW whose moments are rounded to the nearest code of bitsandbytes' maps after each step, as
    its CUDA kernels do. (Its CPU op, 0.50.2, looks codes up in a coarse table: second moments below
    1.5e-5 of their block's largest all become that.) Vectors keep their moments."""

    def __init__(self, groups, lr):
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.books = [bitsandbytes.functional.create_dynamic_map(signed) for signed in (True, False)]

    @staticmethod
    def rounded(x, book):
        blocks = F.pad(x.flatten(), (0, -x.numel() % 256)).view(-1, 256)
        largest = blocks.abs().amax(1, keepdim=True)
        codes = torch.bucketize(blocks / largest.clamp(min=1e-30), (book[1:] + book[:-1]) / 2)
        values = bitsandbytes.functional.dequantize_blockwise(
            codes.to(torch.uint8), absmax=largest.flatten(), code=book, blocksize=256)
        return values.flatten()[:x.numel()].view(x.shape)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state, g = self.state[p], p.grad
                state["step"] = state.get("step", 0) + 1
                m = 0.9 * state.get("m", 0) + 0.1 * g
                v = 0.999 * state.get("v", 0) + 0.001 * g * g
                m_hat, v_hat = m / (1 - 0.9 ** state["step"]), v / (1 - 0.999 ** state["step"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * m_hat / (v_hat.sqrt() + 1e-8))
                if p.numel() >= 4096:
                    m, v = (self.rounded(x, book) for x, book in zip((m, v), self.books))
                state["m"], state["v"] = m, v


class Several:
    """Several torch optimizers as one, each with a part of the params."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers
        self.param_groups = [g for o in optimizers for g in o.param_groups]

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


def grouped(params, decay):
    """As retort does it: vectors don't decay."""
    return [{"params": [p], "weight_decay": decay if p.ndim > 1 else 0.0} for p in params]


def muon(make, params, decay, lr):
    """`make` for matrices (3-D ones as their 2-D parts are its affair), torch's AdamW for vectors."""
    matrices = [p for p in params if p.ndim > 1]
    vectors = [p for p in params if p.ndim == 1]
    return Several(make(grouped(matrices, decay)),
                   torch.optim.AdamW(grouped(vectors, 0.0), lr=lr, betas=(0.9, 0.999), eps=1e-8))


def run(make, tensors, dtype, lr, scale_rates=True):
    numbers = Sequence(17)
    params = [torch.nn.Parameter(numbers.tensor(*shape).to(dtype)) for _, shape, *_ in tensors]
    optimizer = make(params)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            if scale_rates:
                group["lr"] = lr * (1 + step % 3)
        for p in params:
            p.grad = (numbers.tensor(*p.shape).to(dtype) * 0.25 + p.detach() * 0.5)
        optimizer.step()
    return [p.detach().double().flatten() for p in params]


def case(name, plugin, config, make, tensors=SMALL, dtype=torch.float64, lr=0.01, decay=0.1, scale_rates=True):
    results = run(make, tensors, dtype, lr, scale_rates)
    return {"name": name, "plugin": plugin, "config": config, "learning_rate": lr,
            "weight_decay": decay,
            "tensors": [{"name": n, "shape": shape, "roles": roles, "group": group, "stride": stride,
                         "values": [oracle.exact(v) for v in values[::stride]]}
                        for (n, shape, roles, group, stride), values in zip(tensors, results)]}


def flat(tensors):
    """Without the row of matrices, which torch's Muon does not take."""
    return [t for t in tensors if len(t[1]) < 3]


def cases():
    o = torch.optim
    yield case("torch AdamW", "adamw", {"betas": [0.9, 0.95], "eps": 1e-6}, lambda p: o.AdamW(
        grouped(p, 0.1), lr=0.01, betas=(0.9, 0.95), eps=1e-6))
    yield case("torch SGD", "sgd", {}, lambda p: o.SGD(grouped(p, 0.1), lr=0.01))
    yield case("torch SGD momentum dampening", "sgd", {"momentum": 0.9, "dampening": 0.25},
               lambda p: o.SGD(grouped(p, 0.1), lr=0.01, momentum=0.9, dampening=0.25))
    yield case("torch SGD nesterov", "sgd", {"momentum": 0.9, "nesterov": True},
               lambda p: o.SGD(grouped(p, 0.1), lr=0.01, momentum=0.9, nesterov=True))
    yield case("Lion in f64", "lion", {"betas": [0.9, 0.99]},
               lambda p: LionReference(grouped(p, 0.1), 0.01, (0.9, 0.99)))
    yield case("bitsandbytes Lion32bit", "lion", {"betas": [0.9, 0.99]}, lambda p: bitsandbytes.optim.Lion32bit(
        grouped(p, 0.1), lr=0.01, betas=(0.9, 0.99)), dtype=torch.float32)
    yield case("AdamW8bit by nearest codes", "adamw_8bit", {}, lambda p: AdamW8Reference(grouped(p, 0.1), 0.01),
               tensors=LARGE, dtype=torch.float32)
    yield case("bitsandbytes AdamW8bit", "adamw_8bit", {}, lambda p: bitsandbytes.optim.AdamW8bit(
        grouped(p, 0.1), lr=0.01, betas=(0.9, 0.999), eps=1e-8), tensors=LARGE, dtype=torch.float32)
    adafactor = transformers.optimization.Adafactor
    for name, options in (("plain", {}), ("scale_parameter", {"scale_parameter": True})):
        yield case(f"transformers Adafactor {name}", "adafactor", options, lambda p: adafactor(
            grouped(p, 0.1), lr=0.01, scale_parameter=bool(options), relative_step=False))
    for warmup in (False, True):
        yield case(f"transformers Adafactor relative_step{' warmup_init' * warmup}", "adafactor",
                   {"scale_parameter": True, "relative_step": True, "warmup_init": warmup},
                   lambda p: adafactor(grouped(p, 0.1), lr=None, scale_parameter=True,
                                       relative_step=True, warmup_init=warmup),
                   scale_rates=False)
    # torch's decay leaves the param's scale out of its rate, so without any.
    yield case("torch Adafactor", "adafactor", {"scale_parameter": True, "eps": [1e-30, 1e-3]},
               lambda p: o.Adafactor(grouped(p, 0.0), lr=0.01), tensors=flat(SMALL), decay=0.0)
    for adjust in ("match_rms_adamw", "original"):
        for nesterov in (True, False):
            yield case(f"Muon in f64 {adjust}{' nesterov' * nesterov}", "muon",
                       {"adjust": adjust, "nesterov": nesterov}, lambda p: muon(
                           lambda g: MuonReference(g, 0.01, adjust, nesterov), p, 0.1, 0.01))
        yield case(f"torch Muon {adjust}", "muon", {"adjust": adjust}, lambda p: muon(
            lambda g: o.Muon(g, lr=0.01, adjust_lr_fn=adjust), p, 0.1, 0.01),
            tensors=flat(SMALL), dtype=torch.float32)


def main():
    oracle.write_jsonl(oracle.GOLDEN / "optimizers.jsonl", list(cases()))


if __name__ == "__main__":
    main()
