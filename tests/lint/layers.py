"""Who may include whom: the table of docs/architecture.md over every #include line.

SPDX-License-Identifier: Apache-2.0
"""
import posixpath
import re

from tree import Problem, line_of

# The order of core's parts: each may use itself and those before it.
CORE = ["base", "json", "io", "text", "data", "dist", "graph", "model", "ops", "engine",
        "generate", "train", "checkpoint", "library"]
WITH_KERNELS = set(CORE[CORE.index("model"):])
WITH_TORCH = {"ops", "engine", "library"}

# External headers by what they belong to; the first match counts.
EXTERNAL = [
    ("torch", re.compile(r"^(torch|ATen|c10|caffe2)/")),
    ("rapidjson", re.compile(r"^rapidjson/")),
    ("pcre2", re.compile(r"^pcre2")),
    ("utf8proc", re.compile(r"^utf8proc")),
    ("xxhash", re.compile(r"^xxh")),
    ("zlib", re.compile(r"^zlib\.h$")),
    ("boost.dll", re.compile(r"^boost/dll")),
    ("boost.program_options", re.compile(r"^boost/program_options")),
    ("boost", re.compile(r"^boost/")),
    ("libcrypto", re.compile(r"^openssl/")),
    ("libseccomp", re.compile(r"^seccomp")),
    ("spdlog", re.compile(r"^spdlog/")),
    ("httplib", re.compile(r"^httplib")),
    ("curl", re.compile(r"^curl/")),
    ("gtest", re.compile(r"^(gtest|gmock)/")),
    ("benchmark", re.compile(r"^benchmark/")),
    ("openmp", re.compile(r"^omp\.h$")),
    ("mpi", re.compile(r"^(mpi|nccl)\.h$")),
    ("intrinsics", re.compile(r"^(\w*intrin|cpuid)\.h$")),
    ("libc", re.compile(r"^(std\w+|assert|math|limits|string|errno|float|inttypes|ctype|time|"
                        r"sys/auxv)\.h$")),
    ("posix", re.compile(r"^(unistd|spawn|fcntl|signal|dlfcn|pthread|sched|dirent|poll|termios|link|elf|"
                         r"strings|sys/\w+|linux/\w+|malloc)\.h$")),
    ("std", re.compile(r"^[a-z_0-9]+$")),
]
# Own headers that are found through an include folder instead of the source root.
OWN_PREFIXES = [("retort/abi/", "abi"), ("retort/kernels/", "kernels"), ("retort/sdk", "sdk"),
                ("retort/host", "host.h")]

STD = {"std", "libc", "posix"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)


def part_of(path):
    """'core/json/x.cc' -> ('core', 'json'); 'abi/include/…' -> ('abi', '')."""
    pieces = path.split("/")
    if pieces[0] in ("core", "host", "plugins") and len(pieces) > 2:
        return pieces[0], "/".join(pieces[1:3]) if pieces[0] == "plugins" else pieces[1]
    return pieces[0], ""


def allowed_external(path):
    part, sub = part_of(path)
    if part == "abi":
        return {"libc"}
    if part == "kernels":
        extra = {"benchmark"} if path.startswith("kernels/bench/") else set()
        return {"libc", "std", "openmp", "intrinsics"} | extra
    if part == "sdk":
        return {"std", "libc"}
    if part == "core":
        own = {"json": {"rapidjson"}, "text": {"pcre2", "utf8proc"}, "base": {"openmp"},
               "dist": {"mpi"}}.get(sub, set()) | {"xxhash", "zlib"}
        torch = {"torch"} if sub in WITH_TORCH and path.endswith(".cc") else set()
        return STD | own | torch
    if part == "host":
        own = {"plugin": {"boost", "boost.dll", "libcrypto"}, "sandbox": {"libseccomp"},
               "serve": {"httplib"}, "cli": {"boost.program_options"},
               "include": set()}.get(sub, set())
        return STD | own | (set() if sub in ("cli", "include") else {"spdlog"})
    return None  # plugins, tests, examples, tools: any third-party library (torch apart)


def own_target(path, name, quoted, tree):
    """The part that an own header belongs to and its path, or None for an external one."""
    for prefix, part in OWN_PREFIXES:
        if name.startswith(prefix):
            return part, "", name
    if re.match(r"^(abi|sdk|kernels|core|host|plugins|tests|examples)/", name):
        return (*part_of(name), name)
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
    if quoted and beside in tree.paths:
        return (*part_of(beside), beside)
    return None


def own_problem(path, target):
    """Why `path` may not include that own header, or None."""
    (part, sub), (to, to_sub, name) = part_of(path), target
    if to in ("tests", "examples") and part != to:
        return "nothing includes tests or examples"
    if part in ("tests", "examples", "tools"):
        return None
    allowed = {"abi": {"abi"}, "kernels": {"kernels", "abi"}, "sdk": {"sdk", "abi"},
               "plugins": {"plugins", "sdk", "abi", "kernels"}, "core": {"core", "abi", "kernels"},
               "host": {"host", "core", "abi", "host.h"}}.get(part, set())
    if to not in allowed:
        return f"{part}/ may not include {to}'s {name}"
    if part == "plugins" and to == "plugins" and to_sub != sub:
        return "a plugin may not include another plugin"
    if part == "core" and to == "kernels" and sub not in WITH_KERNELS:
        return f"core/{sub} comes before model: no kernels"
    if part == "core" and to == "core" and CORE.index(to_sub) > CORE.index(sub):
        return f"core/{sub} may use only itself and parts before it, not core/{to_sub}"
    if part == "host" and sub == "cli" and to != "host.h" and to_sub != "cli":
        return "the program uses retort/host.h alone"
    if part == "host" and sub == "include" and to not in ("host.h", "abi"):
        return "host.h is a C header over abi/"
    return None


def external_problem(path, name):
    kind = next((k for k, pattern in EXTERNAL if pattern.match(name)), "unknown")
    allowed = allowed_external(path)
    if allowed is None:
        if kind == "torch" and part_of(path)[0] == "plugins":
            return "a plugin may not include LibTorch"
        return None
    if kind in allowed:
        return None
    if kind == "torch" and not path.endswith(".cc"):
        return f"<{name}>: LibTorch is for .cc files of core/ops and core/engine"
    return f"<{name}> ({kind}) is not for {'/'.join(p for p in part_of(path) if p)}"


def check(tree):
    for path in tree.c_files():
        part, sub = part_of(path)
        if part == "core" and sub and sub not in CORE:
            yield Problem("include", path, 1, f"core/{sub} has no place in the order of parts")
            continue
        code = tree.code(path)
        for match in INCLUDE.finditer(code):
            name, quoted = match.group(2), match.group(1) == '"'
            target = own_target(path, name, quoted, tree)
            if target and target[0] == "core" and target[1] not in CORE:
                why = f"core/{target[1]} has no place in the order of parts"
            else:
                why = own_problem(path, target) if target else external_problem(path, name)
            if why:
                yield Problem("include", path, line_of(code, match.start(2)), why)
