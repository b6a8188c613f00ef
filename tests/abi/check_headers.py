#!/usr/bin/env python3
"""Every header of abi/ and host/include/ compiles alone in each language it promises, without padding
or warnings; every header of sdk/ compiles alone as C++20.

Usage: check_headers.py REPOSITORY [CC] [CXX]
SPDX-License-Identifier: Apache-2.0
"""
import concurrent.futures
import pathlib
import subprocess
import sys

LANGUAGES = [("c", "c11"), ("c", "c17"), ("c++", "c++11"), ("c++", "c++14"), ("c++", "c++17"), ("c++", "c++20")]
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Wpadded", "-Wconversion", "-Werror"]
# A header must also stand being included twice and define nothing.
UNIT = '#include "{0}"\n#include "{0}"\nint retort_header_compiled_alone;\n'


def compile_alone(compilers, include, header, language, standard, flags):
    command = [compilers[language], f"-std={standard}", "-fsyntax-only", "-x", language, *flags,
               *(f"-I{path}" for path in include), "-"]
    done = subprocess.run(command, input=UNIT.format(header), capture_output=True, text=True)
    return f"{header} as {standard}:\n{done.stderr}" if done.returncode else ""


def jobs(root):
    abi, sdk, host = root / "abi/include", root / "sdk/include", root / "host/include"
    for include in (abi, host):
        for path in sorted(include.rglob("*.h")):
            for language, standard in LANGUAGES:
                yield [include, abi], path.relative_to(include), language, standard, STRICT
    for path in sorted(sdk.rglob("*.h")):
        yield [abi, sdk], path.relative_to(sdk), "c++", "c++20", ["-Wall", "-Wextra", "-Wshadow", "-Werror"]


def main():
    root = pathlib.Path(sys.argv[1])
    compilers = {"c": sys.argv[2] if len(sys.argv) > 2 else "cc", "c++": sys.argv[3] if len(sys.argv) > 3 else "c++"}
    todo = list(jobs(root))
    if len(todo) < 13 * len(LANGUAGES):
        print(f"only {len(todo)} compilations found: are the headers gone?", file=sys.stderr)
        return 1
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        errors = [e for e in pool.map(lambda job: compile_alone(compilers, *job), todo) if e]
    print("\n".join(errors) if errors else f"{len(todo)} compilations passed")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
