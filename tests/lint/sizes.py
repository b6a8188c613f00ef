"""Length of files and functions (function ends from universal-ctags).

SPDX-License-Identifier: Apache-2.0
"""
import re
import subprocess

from tree import Problem

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
MAIN_LINES_MAX = 59


def check_files(tree):
    for path in tree.code_files():
        n_lines = tree.text(path).count("\n")
        if n_lines > FILE_LINES_MAX:
            yield Problem("file-length", path, 1, f"{n_lines} lines, at most {FILE_LINES_MAX}")
        if path.endswith("/main.cc") and n_lines > MAIN_LINES_MAX:
            yield Problem("file-length", path, 1, f"{n_lines} lines, main.cc has at most {MAIN_LINES_MAX}")


def check_functions(tree):
    files = tree.c_files()
    if not files:
        return
    done = subprocess.run(
        ["ctags", "-f", "-", "-L", "-", "--languages=C,C++", "--langmap=C++:+.h", "--excmd=number",
         "--kinds-C=f", "--kinds-C++=f", "--fields=+e", "--extras=-F", "--sort=no"],
        input="\n".join(files), capture_output=True, text=True, cwd=tree.root, check=True)
    for tag in done.stdout.splitlines():
        name, path, rest = tag.split("\t", 2)
        begin, end = re.match(r"(\d+)", rest), re.search(r"\bend:(\d+)", rest)
        if not begin or not end:
            continue
        n_lines = int(end.group(1)) - int(begin.group(1)) + 1
        if n_lines > FUNCTION_LINES_MAX:
            yield Problem("function-length", path, int(begin.group(1)),
                          f"{name} has {n_lines} lines, at most {FUNCTION_LINES_MAX}")


def check(tree):
    yield from check_files(tree)
    yield from check_functions(tree)
