#!/usr/bin/env python3
"""Checks the mechanical rules of docs/development.md over the source tree; 1 if one is broken.

Usage: lint.py [ROOT] [--rule NAME ...]; the rules are the keys of RULES below.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import pathlib
import sys

import layers
import layout
import links
import sizes
import words
from exceptions import EXCEPTIONS
from tree import Problem, Tree

RULES = {"include": layers.check, "link": links.check, "size": sizes.check, "word": words.check,
         "format": layout.check}


def excused(problem, exceptions, used):
    for entry in exceptions:
        rule, where, _ = entry
        inside = where.endswith("/") and problem.path.startswith(where)
        if rule == problem.rule and (problem.path == where or inside):
            used.add(entry)
            return True
    return False


def run(root, rules=None, exceptions=EXCEPTIONS):
    """All problems of the tree at `root`, by path and line."""
    tree, used, problems = Tree(root), set(), []
    for name in rules or RULES:
        problems += [p for p in RULES[name](tree) if not excused(p, exceptions, used)]
    if not rules:
        problems += [Problem("exception", "tests/lint/exceptions.py", 1, f"excuses nothing: {e[:2]}")
                     for e in exceptions if e not in used]
    return sorted(problems, key=lambda p: (p.path, p.line, p.rule))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--rule", action="append", choices=RULES)
    options = parser.parse_args()
    problems = run(options.root, options.rule)
    for problem in problems:
        print(problem)
    if problems:
        print(f"lint: {len(problems)} problems", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
