#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/unit/packed/quant_goldens.txt: what other implementations make of known weights.

gguf's Python quantisers give bytes of Q8_0, Q4_0 and Q4_1; llama.cpp's library gives the mean
squared error of its Q4_K and Q6_K; bitsandbytes gives NF4 with double quantisation: codes, absmax
after their own quantisation, every 97th weight after all, and both code books.

The weights are not in the file: weights(n, seed) below and in quantize_test.cc are the same numbers,
exact in f32. Format: lines of "<name> <value>...", bytes in hex.
Run with the peers' venv: python tests/peers/make_quant_goldens.py
"""
import ctypes
import pathlib

import bitsandbytes.functional as bnb
import gguf
import gguf.quants
import llama_cpp
import numpy as np
import torch

OUT = pathlib.Path(__file__).parents[1] / "unit/packed/quant_goldens.txt"
NF4_ROWS, NF4_COLS = 24, 704  # 264 absmax: two groups of the second quantisation


def weights(n, seed):
    """Bell-shaped, each 64 with a size of its own; 16 bits of integer times a power of two."""
    out = np.empty(n, np.float32)
    state = seed
    for i in range(n):
        total = 0
        for _ in range(4):
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            total += (state >> 20) - 2048
        out[i] = np.float32(total * (1 + i // 64 % 7)) * np.float32(2.0**-16)
    return out


def edges():
    """Blocks of 32: zeros, one value, a spike up, a spike down, ties between codes, tiny."""
    rows = [np.zeros(32), np.full(32, 0.5), np.zeros(32), np.zeros(32), np.arange(32) - 15.5]
    rows[2][5], rows[3][31] = 3.0, -3.0
    rows.append(weights(32, 9) * np.float32(2.0**-20))
    return np.concatenate(rows).astype(np.float32)


def library_error(kind, w):
    folder = pathlib.Path(llama_cpp.__file__).parent / "lib"
    lib = ctypes.CDLL(str(folder / "libggml-base.so"))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    size = gguf.GGML_QUANT_SIZES[kind]
    out = np.empty(len(w) // size[0] * size[1], np.uint8)
    lib.ggml_quantize_chunk(
        ctypes.c_int(int(kind)), w.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
        out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0), ctypes.c_int64(1),
        ctypes.c_int64(len(w)), None)
    back = gguf.quants.dequantize(out, kind)
    return float(np.mean((back.astype(np.float64) - w) ** 2))


def numbers(values):
    return " ".join(f"{v:.9g}" for v in values)


def main():
    kinds = gguf.GGMLQuantizationType
    w = np.concatenate([weights(256, 1), edges()])
    lines = ["# made by tests/peers/make_quant_goldens.py"]
    for kind in (kinds.Q8_0, kinds.Q4_0, kinds.Q4_1):
        lines.append(f"{kind.name.lower()} {gguf.quants.quantize(w, kind).tobytes().hex()}")
    for kind in (kinds.Q4_K, kinds.Q6_K):
        lines.append(f"{kind.name.lower()}_error {library_error(kind, weights(16384, 2)):.9g}")
    w = torch.from_numpy(weights(NF4_ROWS * NF4_COLS, 3)).reshape(NF4_ROWS, NF4_COLS)
    codes, state = bnb.quantize_4bit(w, blocksize=64, quant_type="nf4", compress_statistics=True)
    absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    back = bnb.dequantize_4bit(codes, state).reshape(-1)
    lines += [f"nf4_code {numbers(state.code.tolist())}",
              f"nf4_codes {bytes(codes.reshape(-1).tolist()).hex()}",
              f"nf4_absmax {numbers(absmax.tolist())}",
              f"nf4_every_97th {numbers(back[::97].tolist())}"]
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
