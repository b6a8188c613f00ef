"""clang-format finds nothing to change.

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from tree import Problem

WARNING = re.compile(r"^(.+?):(\d+):\d+: (?:error|warning): code should be clang-formatted")


def check(tree):
    files = tree.c_files()
    n = max(1, os.cpu_count() or 1)
    chunks = [files[i::n] for i in range(n) if files[i::n]]

    def run(chunk):
        return subprocess.run(["clang-format", "--dry-run", "-Werror", "--ferror-limit=1", *chunk],
                              capture_output=True, text=True, cwd=tree.root)

    with ThreadPoolExecutor(n) as pool:
        for done in pool.map(run, chunks):
            seen = set()
            for line in done.stderr.splitlines():
                match = WARNING.match(line)
                if match and match.group(1) not in seen:
                    seen.add(match.group(1))
                    yield Problem("format", match.group(1), int(match.group(2)),
                                  "run `clang-format -i` on it")
            if done.returncode != 0 and not seen:
                yield Problem("format", ".clang-format", 1, done.stderr.strip()[:300])
