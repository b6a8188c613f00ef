"""The files that lint looks at, and C++ text without its comments and strings.

SPDX-License-Identifier: Apache-2.0
"""
import functools
import os
import pathlib
import re

SKIPPED_FOLDERS = {"build", "runs", "__pycache__", "fixtures"}
C_SUFFIXES = {".h", ".hpp", ".c", ".cc", ".cpp"}
CODE_SUFFIXES = C_SUFFIXES | {".py", ".sh", ".cmake", ".in"}
CODE_NAMES = {"CMakeLists.txt", "Makefile", "versions.env"}
# Where production code lives; tests and examples are free of the one-home rules.
PRODUCTION = {"abi", "sdk", "kernels", "core", "host", "plugins"}


class Problem:
    def __init__(self, rule, path, line, text):
        self.rule, self.path, self.line, self.text = rule, path, line, text

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


class Tree:
    """All text files below `root`, by their path from it ("core/base/status.h")."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        self.paths = sorted(self._walk())

    def _walk(self):
        for folder, names, files in os.walk(self.root):
            names[:] = [n for n in names if n not in SKIPPED_FOLDERS and not self._hidden(n)]
            for name in files:
                path = pathlib.Path(folder, name).relative_to(self.root).as_posix()
                if not name.startswith(".") or name == ".clang-format":
                    yield path

    @staticmethod
    def _hidden(name):
        return name.startswith(".") and name != ".ci"

    @functools.lru_cache(maxsize=None)
    def text(self, path):
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    @functools.lru_cache(maxsize=None)
    def code(self, path):
        """The text with comments and string contents blanked, lines kept."""
        return strip_c(self.text(path))

    def c_files(self):
        return [p for p in self.paths if pathlib.PurePath(p).suffix in C_SUFFIXES]

    def code_files(self):
        return [p for p in self.paths if pathlib.PurePath(p).suffix in CODE_SUFFIXES
                or pathlib.PurePath(p).name in CODE_NAMES or p.startswith(".ci/")]


_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^(\s]*)\(.*?\)(?P=d)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'',
    re.DOTALL)


def strip_c(text):
    def blank(match):
        piece = match.group(0)
        if piece[0] == "'" and len(piece) > 6:  # a digit separator, not a character
            return piece
        return re.sub(r"[^\n]", " ", piece)

    # Include lines keep their names.
    kept = {i: line for i, line in enumerate(text.split("\n"))
            if re.match(r"\s*#\s*include\b", line)}
    lines = _TOKEN.sub(blank, text).split("\n")
    for i, line in kept.items():
        lines[i] = re.sub(r"(//|/\*).*", "", line)
    return "\n".join(lines)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1
