#!/usr/bin/env python3
"""Plugins from outside: installs the SDK into a fresh folder, builds the example plugins against
that alone, as an author would, and runs a program that loads and uses them.

Usage: check_outside.py REPOSITORY BUILD CMAKE OUTPUT PROGRAM
The plugins stay in OUTPUT (libmentions.so and so on); PROGRAM gets it in RETORT_OUTSIDE_DIR.
SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

EXAMPLES = {"reward_c": "mentions", "filter_cpp": "repeated_lines", "kinds_cpp": "kinds",
            "custom_op_family": "hybrid"}


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        print(" ".join(str(c) for c in command), done.stdout, done.stderr, sep="\n")
        sys.exit(1)
    return done.stdout


def main():
    repository, build, cmake, output, program = (pathlib.Path(a) for a in sys.argv[1:6])
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        prefix = pathlib.Path(folder) / "prefix"
        run(cmake, "--install", build, "--component", "sdk", "--prefix", prefix)
        for example, library in EXAMPLES.items():
            # A copy, so that nothing of the repository is within reach by accident.
            source = pathlib.Path(folder) / example
            shutil.copytree(repository / "examples" / example, source)
            run(cmake, "-G", "Ninja", "-S", source, "-B", source / "build", f"-DCMAKE_PREFIX_PATH={prefix}",
                "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror",
                "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wconversion -Wshadow -Werror")
            run(cmake, "--build", source / "build")
            shutil.copy(source / "build" / f"lib{library}.so", output)
        flags = run("pkg-config", "--cflags", "retort",
                    env={**os.environ, "PKG_CONFIG_PATH": str(next(prefix.rglob("pkgconfig")))})
        run("cc", "-std=c11", *flags.split(), "-fsyntax-only", "-x", "c", "-",
            input="#include <retort/abi/entry.h>\n")
    print(run(program, env={**os.environ, "RETORT_OUTSIDE_DIR": str(output)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
