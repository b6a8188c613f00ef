"""The CMake link graph: read from the CMakeLists.txt files, checked like the include table.

Understands what this tree writes: retort_library, add_library, add_executable,
target_link_libraries with plain words, retort_add_plugin, retort_builtin, retort_test.
SPDX-License-Identifier: Apache-2.0
"""
import re

from layers import CORE, WITH_TORCH
from tree import Problem, line_of

COMMAND = re.compile(r"^\s*(\w+)\s*\(((?:[^()]|\([^()]*\))*)\)", re.MULTILINE)
KEYWORDS = {"PUBLIC", "PRIVATE", "INTERFACE", "STATIC", "SHARED", "ALIAS", "IMPORTED", "OBJECT"}
TORCH = {"retort::torch_cpu", "retort::c10", "torch_cpu", "c10"}


def words(text):
    text = re.sub(r"#[^\n]*", "", text)
    return [w.strip('"') for w in re.findall(r'"[^"]*"|[^\s;]+', text)]


def sections(arguments, names):
    """['a', 'DEPS', 'x', 'y'] -> {'': ['a'], 'DEPS': ['x', 'y']}"""
    out, key = {"": []}, ""
    for word in arguments:
        if word in names:
            key = word
            out.setdefault(key, [])
        else:
            out[key].append(word)
    return out


class Links:
    """target -> its direct dependencies, with where each was written."""

    def __init__(self, tree):
        self.direct, self.where = {}, {}
        for path in tree.paths:
            if path.endswith("CMakeLists.txt"):
                text = re.sub(r"#[^\n]*", lambda m: " " * len(m.group(0)), tree.text(path))
                for match in COMMAND.finditer(text):
                    self._command(path, line_of(text, match.start(1)), match.group(1),
                                  words(match.group(2)))

    def _add(self, target, deps, path, line):
        target = target.replace("retort::", "")
        self.where.setdefault(target, (path, line))
        known = self.direct.setdefault(target, [])
        for dep in deps:
            short = dep if dep in TORCH else dep.replace("retort::", "")
            known.append((short, path, line))

    def _command(self, path, line, name, args):
        if not args:
            return
        if name in ("retort_library", "retort_test", "retort_add_plugin"):
            part = sections(args, {"SOURCES", "DEPS", "PRIVATE_DEPS", "LIBS", "ENV", "LABELS",
                                   "TIMEOUT", "LINK", "LIBRARIES"})
            deps = [w for k in ("DEPS", "PRIVATE_DEPS", "LIBS", "LINK", "LIBRARIES")
                    for w in part.get(k, [])]
            self._add(args[0], deps, path, line)
        elif name == "retort_builtin" and len(args) > 1:
            part = sections(args, {"DEPS"})
            self._add(f"retort_{args[0]}_{args[1]}", part.get("DEPS", []), path, line)
        elif name in ("add_library", "add_executable"):
            self._add(args[0], [], path, line)
        elif name == "target_link_libraries":
            self._add(args[0], [w for w in args[1:] if w not in KEYWORDS], path, line)

    def closure(self, target):
        seen, todo = set(), [target]
        while todo:
            for dep, _, _ in self.direct.get(todo.pop(), []):
                if dep not in seen:
                    seen.add(dep)
                    todo.append(dep)
        return seen


def core_part(links, target):
    """'train' for a target written in core/train/CMakeLists.txt; None for others."""
    pieces = links.where.get(target, ("", 0))[0].split("/")
    return pieces[1] if pieces[0] == "core" and len(pieces) > 2 else None


def core_problem(links, target, dep):
    sub = core_part(links, target)
    if sub not in CORE:
        return f"{target} has no place in the order of parts"
    if dep in TORCH and sub not in WITH_TORCH:
        return f"{target} may not link LibTorch"
    if dep.startswith("host_") or dep in ("retort", "retort_cli"):
        return f"core may not link {dep}"
    other = core_part(links, dep)
    if other in CORE and CORE.index(other) > CORE.index(sub):
        return f"{target} comes before {dep}"
    return None


def target_problem(links, target, dep, where):
    if core_part(links, target):
        return core_problem(links, target, dep)
    if target.startswith("host_") and dep in TORCH:
        return "host may not link LibTorch"
    if where.startswith("plugins/"):
        if dep in TORCH or re.match(r"(core|host)_|retort$|retort_engine$", dep):
            return f"a plugin may not link {dep}"
    if target == "retort_cli" and re.match(r"(core|host)_(?!cli$)", dep):
        return "the program links libretort alone"
    if target == "retort_kernels" and (dep in TORCH or re.match(r"(core|host)_", dep)):
        return f"kernels may not link {dep}"
    return None


def check(tree):
    links = Links(tree)
    for target, deps in links.direct.items():
        for dep, path, line in deps:
            if path.startswith(("tests/", "examples/")) or "/test/" in path:
                continue
            why = target_problem(links, target, dep, path)
            if why:
                yield Problem("link", path, line, why)
    late = {f"core_{p}" for p in ("ops", "engine", "generate", "train")}
    for target in ("retort", "retort_cli"):
        reached = links.closure(target)
        for dep in sorted(reached & (late | TORCH | {"retort_engine"})):
            path, line = links.where.get(target, ("CMakeLists.txt", 1))
            yield Problem("link", path, line, f"{target} reaches {dep}: it must start without LibTorch")
