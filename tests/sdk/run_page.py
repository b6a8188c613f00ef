#!/usr/bin/env python3
"""Runs a page of the documentation: its ```sh blocks, in order, in one shell in an empty folder. A
```text block after one is what it printed: each of its lines is among the lines printed since the
block before (`...` stands for anything, also within a line). Prints the seconds of each block.

Usage: run_page.py PAGE BUILD
The blocks may use what the page asks its reader for: `retort` on the PATH, $RETORT_BUILD, $SDK.
SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.S | re.M)


def matches(line, printed):
    pattern = ".*".join(re.escape(part.strip()) for part in line.split("..."))
    return any(re.search(pattern, p) for p in printed)


def run(text, folder, environment):
    """The block's output and seconds; the shell's folder and variables go on to the next block."""
    state = folder / ".state"
    begin = f"set -e; [ ! -f {state} ] || . {state}\n"
    # A block is code of its own: `set -e` stops at its first failing command.
    script = begin + text + f"\n{{ declare -p -x; echo \"cd '$PWD'\"; }} > {state}\n"
    start = time.monotonic()
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{text}\nfailed:\n{done.stdout}")
    return done.stdout, time.monotonic() - start


def main():
    page, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
    blocks = BLOCK.findall(page.read_text())
    if not any(kind == "sh" for kind, _ in blocks):
        sys.exit(f"{page}: no ```sh block")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RETORT", "CMAKE"))}
        environment.update(PATH=f"{build / 'bin'}:{os.environ['PATH']}", HOME=str(folder),
                           RETORT_BUILD=str(build), SDK=str(folder / "retort-sdk"))
        output, total = "", 0
        for kind, text in blocks:
            if kind == "sh":
                output, seconds = run(text, folder, environment)
                total += seconds
                print(f"{seconds:6.2f} s  {text.splitlines()[0]}")
                continue
            for line in text.splitlines():
                if line.strip() not in ("", "...") and not matches(line, output.splitlines()):
                    sys.exit(f"{page}: the page shows\n{line}\nbut this was printed:\n{output}")
        print(f"{total:6.2f} s  all of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
