#!/usr/bin/env python3
"""The layout of the plugin ABI and of the host API as text: offset and size of every member, size of
every struct, value of every constant. Read from the headers, worked out by the C compiler.

Usage: layout.py REPOSITORY [CC]            compares with abi/layout.golden, host/library/layout.golden
       layout.py REPOSITORY [CC] --write    writes them (an entry in abi/CHANGELOG.md belongs to that)
SPDX-License-Identifier: Apache-2.0
"""
import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

STRUCT = re.compile(r"typedef struct (retort_\w+) \{(.*?)\n\} \1;", re.S)
CONSTANT = re.compile(r"^#define (RETORT_\w+)[ \t]+(\S.*)$", re.M)


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


def members(body):
    """Names in order; a member ends at a semicolon outside parentheses."""
    depth, start = 0, 0
    for i, c in enumerate(body):
        depth += (c == "(") - (c == ")")
        if c == ";" and depth == 0:
            declaration, start = body[start:i], i + 1
            pointer = re.search(r"\(\*(\w+)\)\s*\(", declaration)
            yield pointer.group(1) if pointer else re.search(r"(\w+)\s*$", declaration).group(1)


# Headers, and where their layout is kept.
PARTS = [("abi/include", "abi/layout.golden"), ("host/include", "host/library/layout.golden")]


def program(include):
    headers = sorted(p.relative_to(include) for p in include.rglob("*.h"))
    lines = ["#include <stdio.h>", *(f'#include "{h}"' for h in headers), "int main(void) {"]
    for header in headers:
        text = without_comments((include / header).read_text())
        for name, value in CONSTANT.findall(text):
            if name.endswith(("_H_", "_H", "_API")):
                continue
            if value.startswith('"'):
                lines.append(f'  printf("{name} %s\\n", {name});')
            else:
                lines.append(f'  printf("{name} %lld\\n", (long long)({name}));')
        for name, body in STRUCT.findall(text):
            lines.append(f'  printf("{name} size %zu\\n", sizeof({name}));')
            for member in members(body):
                lines.append(f'  printf("{name}.{member} %zu %zu\\n", offsetof({name}, {member}),'
                             f" sizeof((({name}*)0)->{member}));")
    return "\n".join([*lines, "  return 0;", "}", ""])


def layout(root, part, compiler):
    with tempfile.TemporaryDirectory() as folder:
        binary = pathlib.Path(folder) / "layout"
        subprocess.run([compiler, "-std=c11", "-x", "c", "-", f"-I{root / part}", f"-I{root / 'abi/include'}",
                        "-o", binary], input=program(root / part), text=True, check=True)
        return subprocess.run([binary], capture_output=True, text=True, check=True).stdout


def main():
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    root = pathlib.Path(arguments[0])
    changed = False
    for part, name in PARTS:
        now = layout(root, part, arguments[1] if len(arguments) > 1 else "cc")
        golden = root / name
        if "--write" in sys.argv:
            golden.write_text(now)
            continue
        before = golden.read_text()
        if now == before:
            print(f"{len(now.splitlines())} lines of {name} are as they were")
            continue
        changed = True
        sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), now.splitlines(True), name, part))
        print("the layout changed: write it with --write, and an entry in abi/CHANGELOG.md")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
