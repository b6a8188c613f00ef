#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the objects of one kernel level: check_levels.py LEVEL OBJECT...

1. No instruction above the level (AVX-512 outside avx512, AVX outside avx2 and avx512).
2. Every weak symbol (an inline function or template, which the linker may take from any object)
   lies in the level's own namespace; else code for a newer processor could win at link time.
"""
import re
import subprocess
import sys

AVX512 = re.compile(r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])\b|\{%k\d\}|%k[0-7]\b")
AVX = re.compile(r"%ymm|\tv[a-z]+\d* ")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def problems(level, path):
    code = run("objdump", "-d", "--no-show-raw-insn", path)
    if not level.startswith("avx512") and AVX512.search(code):
        yield f"{path}: AVX-512 instruction: {AVX512.search(code).group(0)}"
    if level == "portable" and AVX.search(code):
        yield f"{path}: AVX instruction: {AVX.search(code).group(0).strip()}"
    for line in run("nm", "-C", path).splitlines():
        parts = line.split(maxsplit=2) if line[0] != " " else ["", *line.split(maxsplit=1)]
        if parts[1] in "WVu" and f"retort::kernels::{level}::" not in parts[2]:
            yield f"{path}: weak symbol outside the level's namespace: {parts[2]}"


def main():
    level, objects = sys.argv[1], sys.argv[2:]
    found = [p for path in objects for p in problems(level, path)]
    if level.startswith("avx512") and not any(AVX512.search(run("objdump", "-d", p)) for p in objects):
        found.append(f"{level}: no AVX-512 instruction anywhere: were the flags lost?")
    print("\n".join(found) or f"{level}: {len(objects)} objects are sound")
    return 1 if found or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
