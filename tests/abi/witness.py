#!/usr/bin/env python3
"""The stable ABI, watched by abidiff: a library that uses every struct and function of the stable
headers, compared with the record of version 1.0. Members may be added at the end of a struct that
starts with struct_size; nothing else may change. First proves on altered headers that it notices.

Usage: witness.py REPOSITORY CC            compares with tests/abi/frozen/v1.0/witness.abi
       witness.py REPOSITORY CC --write    records it; only while 1.0 is not released
SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

STRUCT = re.compile(r"typedef struct (retort_\w+) \{(.*?)\n\} \1;", re.S)

# The lines of abidiff's report on a struct that only grew.
CHANGED = re.compile(r"^'struct (\w+)(?: at .*)?' changed:$")
SIZE = re.compile(r"^  type size changed from (\d+) to (\d+) \(in bits\)$")
INSERTED = re.compile(r"^    '.*', at offset (\d+) \(in bits\)")
HARMLESS = re.compile(r"^(\w+ changes? summary|Leaf changes summary|Changed leaf types summary|"
                      r"Removed/Changed/Added .* summary): |^  \d+ data member insertions?:$|^$")

# Changes of the headers: (file, old, new, whether it breaks plugins).
MUTATIONS = [
    ("call.h", "  void* (*scratch)(void* ctx, uint64_t bytes, uint64_t alignment);\n",
     "  void* (*scratch)(void* ctx, uint64_t bytes, uint64_t alignment);\n  uint64_t later;\n", False),
    ("reward.h", "                         const retort_reward_args* args);\n",
     "                         const retort_reward_args* args);\n  void* later;\n", True),
    ("reward.h", "  uint32_t finish; ", "  uint64_t later;\n  uint32_t finish; ", True),
    ("types.h", "  uint64_t lo;\n", "  uint64_t lo;\n  uint64_t later;\n", True),
    ("reward.h", "  uint64_t preferred_batch;", "  uint64_t later;\n  uint64_t preferred_batch;", True),
    ("reward.h", "  double* score; ", "  float* score; ", True),
    ("filter.h", "  uint32_t action; ", "  uint64_t action; ", True),
    ("types.h", "  const char* ptr;\n", "  const char* ptr;\n  uint64_t later;\n", True),
    ("entry.h", "  const char* license;", "  const char* licence;\n  const char* license;", True),
    ("host.h", "  const char* version; ", "  uint32_t version; ", True),
]


def headers(include):
    return sorted(p for p in (include / "retort/abi").glob("*.h"))


def structs(include):
    for header in headers(include):
        yield from STRUCT.findall(header.read_text())


def build(include, compiler, output):
    source = "".join(f'#include "retort/abi/{h.name}"\n' for h in headers(include))
    # Through pointers: a size that grows at the end is then no change of a symbol.
    source += "".join(f"const {name}* witness_{name}(const {name}* p) {{ return p; }}\n" for name, _ in structs(include))
    source += "const retort_entry* retort_plugin_entry_v1(void) { return 0; }\n"
    subprocess.run([compiler, "-std=c11", "-g", "-O0", "-shared", "-fPIC", "-x", "c", "-", f"-I{include}",
                    "-o", output], input=source, text=True, check=True)


def difference(baseline, library, grows):
    """abidiff's report, or "" if structs of `grows` got members at their end and nothing else changed."""
    done = subprocess.run(["abidiff", "--leaf-changes-only", baseline, library], capture_output=True, text=True)
    if done.returncode & 3:
        raise SystemExit(f"abidiff failed: {done.stdout}{done.stderr}")
    name, end = None, 0
    for line in done.stdout.splitlines():
        if found := CHANGED.match(line):
            name = found[1]
        elif found := SIZE.match(line):
            end = int(found[1])
        elif found := INSERTED.match(line):
            if name not in grows or int(found[1]) < end:
                return done.stdout
        elif not HARMLESS.match(line):
            return done.stdout
    return ""


def mutated(include, folder, file, old, new):
    copy = pathlib.Path(folder) / "mutated"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(include, copy)
    path = copy / "retort/abi" / file
    text = path.read_text()
    if old not in text:
        raise SystemExit(f"witness.py: {file} no longer has {old!r}: change MUTATIONS")
    path.write_text(text.replace(old, new, 1))
    return copy


def main():
    root, compiler = pathlib.Path(sys.argv[1]), sys.argv[2]
    include, baseline = root / "abi/include", root / "tests/abi/frozen/v1.0/witness.abi"
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "libwitness.so"
        # Tables of functions (R2) are frozen whole; argument structs may grow (R3).
        grows = {name for name, body in structs(include)
                 if re.match(r"\s*uint32_t struct_size;", body) and not name.endswith("_v1")}
        build(include, compiler, library)
        if "--write" in sys.argv:
            subprocess.run(["abidw", "--no-comp-dir-path", "--no-show-locs", "--no-corpus-path", "--out-file",
                            baseline, library], check=True)
            return 0
        if text := difference(baseline, library, grows):
            print(text, "the stable ABI changed in a way that breaks plugins", sep="\n")
            return 1
        for file, old, new, breaks in MUTATIONS:
            build(mutated(include, folder, file, old, new), compiler, library)
            if bool(difference(baseline, library, grows)) != breaks:
                print(f"{file}: abidiff {'missed' if breaks else 'refused'} {new.strip()!r}")
                return 1
    print(f"{len(list(structs(include)))} structs are as in 1.0; {len(MUTATIONS)} altered headers were told apart")
    return 0


if __name__ == "__main__":
    sys.exit(main())
