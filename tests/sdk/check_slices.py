#!/usr/bin/env python3
"""Code in the documentation is cut from compiled files: after `<!-- slice: PATH NAME -->` stands a
fenced block equal to the text between the marks [NAME.begin] and [NAME.end] of PATH.

Usage: check_slices.py REPOSITORY [--write]
SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import re
import sys

BLOCK = re.compile(r"(<!-- slice: (\S+) (\w+) -->\n```\w*\n)(.*?)(```\n)", re.S)


def slice_of(root, path, name):
    text = (root / path).read_text()
    found = re.search(rf"^[^\n]*\[{name}\.begin\][^\n]*\n(.*?)^[^\n]*\[{name}\.end\]", text, re.S | re.M)
    if not found:
        raise SystemExit(f"{path}: no [{name}.begin] ... [{name}.end]")
    return found.group(1)


def main():
    root = pathlib.Path(sys.argv[1])
    stale, count = [], 0
    for page in sorted((root / "docs").rglob("*.md")):
        before = page.read_text()
        count += len(BLOCK.findall(before))
        now = BLOCK.sub(lambda m: m[1] + slice_of(root, m[2], m[3]) + m[5], before)
        if now != before:
            stale.append(str(page.relative_to(root)))
            if "--write" in sys.argv:
                page.write_text(now)
    if "--write" in sys.argv:
        return 0
    print("\n".join(f"{p}: run tests/sdk/check_slices.py . --write" for p in stale) or f"{count} slices are fresh")
    return 1 if stale or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
