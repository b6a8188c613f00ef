"""Rules about words: licence lines, one home for each dangerous call, paths of one machine.

SPDX-License-Identifier: Apache-2.0
"""
import re

from tree import PRODUCTION, Problem, line_of

SPDX = "SPDX-License-Identifier: Apache-2.0"
# (what, pattern over code without comments and strings, folders or files that may)
HOMES = [
    ("files are published by core/io", r"\b(fsync|fdatasync|rename|renameat2?)\s*\(|\bstd::(ofstream|fstream)\b",
     ("core/io/",)),
    ("JSON is parsed by core/json", r"\brapidjson::", ("core/json/",)),
    ("patterns are matched by core/text", r"\bpcre2_\w+", ("core/text/",)),
    ("random numbers come from core/base", r"\bstd::(mt19937(_64)?|random_device|minstd_rand)\b"
     r"|\b(rand|srand|drand48|random)\s*\(\s*\)", ("core/base/",)),
    ("time comes from core/base", r"\b(steady_clock|system_clock|high_resolution_clock)\b"
     r"|\b(clock_gettime|gettimeofday|localtime(_r)?|gmtime(_r)?)\s*\(|\btime\s*\(\s*(NULL|nullptr)",
     ("core/base/",)),
    ("the thread count comes from core/base", r"\bhardware_concurrency\b|\bsched_getaffinity\s*\("
     r"|\bomp_(get_max|get_num_procs|set_num_threads)\w*\s*\(", ("core/base/",)),
    ("LibTorch's thread count is set at the engine's edge", r"\bset_num_(interop_)?threads\s*\(",
     ("core/engine/", "core/library/")),
    ("libraries are opened by host/plugin", r"\bboost::dll\b|\bdlopen\s*\(", ("host/plugin/",)),
    ("exceptions are caught by guard", r"\bcatch\s*\(", ("core/base/guard.h", "host/cli/main.cc")),
    ("never called", r"\b(dlclose|system|popen|tmpnam|mktemp)\s*\(|::dlclose\b", ()),
    ("no ranges adaptors", r"\bstd::(ranges::)?views\b", ()),
]
CORE_ONLY = [("core owns by unique_ptr", r"\bshared_ptr\b")]
WIDE_TORCH = re.compile(
    r'#\s*include\s*[<"](torch/(all|torch|script|extension|types)\.h|ATen/(ATen|Functions|NativeFunctions)\.h)')
# Spelled in pieces, so that this file passes its own rule.
MACHINE_PATH = re.compile("(?<![\\w.$}~])/(" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me"]) + ")/")
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
TEXT_SUFFIXES = (".md", ".json", ".jsonl", ".txt", ".golden", ".env", ".jinja")


def check_spdx(tree):
    for path in tree.code_files():
        if SPDX not in tree.text(path)[:3000]:
            yield Problem("spdx", path, 1, f"no line \"{SPDX}\"")


def find(tree, path, code, pattern, rule, why):
    for match in re.finditer(pattern, code):
        yield Problem(rule, path, line_of(code, match.start()), f"`{match.group(0).strip()}`: {why}")


def check_homes(tree):
    for path in tree.c_files():
        if path.split("/")[0] not in PRODUCTION or "/test/" in path \
                or path.startswith("kernels/bench/"):
            continue
        code = tree.code(path)
        for why, pattern, homes in HOMES:
            if not path.startswith(homes) and not (why.startswith("exceptions")
                                                   and path.endswith("/guard.h")):
                yield from find(tree, path, code, pattern, "one-home", why)
        if path.startswith("core/"):
            for why, pattern in CORE_ONLY:
                yield from find(tree, path, code, pattern, "one-home", why)
        for match in WIDE_TORCH.finditer(code):
            yield Problem("wide-include", path, line_of(code, match.start()),
                          f"{match.group(1)} costs 4-17 s a file: use ATen/ops/NAME.h")


def check_paths(tree):
    for path in tree.paths:
        if path not in tree.code_files() and not path.endswith(TEXT_SUFFIXES):
            continue
        text = tree.text(path)
        for match in MACHINE_PATH.finditer(text):
            yield Problem("machine-path", path, line_of(text, match.start()),
                          "an absolute path of one machine")
        if path in tree.code_files():
            for match in UNFINISHED.finditer(text):
                yield Problem("unfinished", path, line_of(text, match.start()), match.group(0))


def check(tree):
    yield from check_spdx(tree)
    yield from check_homes(tree)
    yield from check_paths(tree)
