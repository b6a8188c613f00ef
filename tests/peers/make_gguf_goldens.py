#!/usr/bin/env python3
"""Writes tests/golden/gguf_dequant.txt: blocks of each GGUF type and their values by Python's gguf.

Each case is a line "TYPE HEX" and then one value per line, as hexadecimal floats (exact).
Q8_0, Q4_0, Q4_1 blocks are quantised from random weights; Q4_K and Q6_K, which the package only
reads, are random bytes with sane scales. Run it in the peers venv (tests/peers/setup.sh).
SPDX-License-Identifier: Apache-2.0
"""
import pathlib

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

OUT = pathlib.Path(__file__).resolve().parents[1] / "golden" / "gguf_dequant.txt"
Type = gguf.GGMLQuantizationType


def half(x):
    return np.frombuffer(np.float16(x).tobytes(), np.uint8)


def cases():
    rng = np.random.default_rng(20260131)
    for kind in (Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1):
        weights = (rng.standard_normal(64) * 0.3).astype(np.float32)
        weights[3] = 0
        yield kind, quantize(weights, kind)
    k4 = rng.integers(0, 256, 144, dtype=np.uint8)
    k4[0:2], k4[2:4] = half(0.0123), half(-0.0045)
    yield Type.Q4_K, k4
    k6 = rng.integers(0, 256, 210, dtype=np.uint8)
    k6[208:210] = half(0.00077)
    yield Type.Q6_K, k6


def main():
    lines = []
    for kind, data in cases():
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        lines.append(f"{kind.name} {raw.tobytes().hex()}")
        values = dequantize(raw, kind).reshape(-1)
        lines += [float(np.float32(v)).hex() for v in values]
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
