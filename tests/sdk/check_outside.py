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

from new_project import launchers

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
    folder = output.parent / "outside_work"  # a name that stays: ccache finds what it has compiled
    shutil.rmtree(folder, ignore_errors=True)
    prefix = folder / "prefix"
    run(cmake, "--install", build, "--component", "sdk", "--prefix", prefix)
    for example, library in EXAMPLES.items():
        # A copy, so that nothing of the repository is within reach by accident.
        source = folder / example
        shutil.copytree(repository / "examples" / example, source)
        run(cmake, "-G", "Ninja", "-S", source, "-B", source / "build", f"-DCMAKE_PREFIX_PATH={prefix}",
            "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror",
            "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wconversion -Wshadow -Werror", "--no-warn-unused-cli", *launchers())
        run(cmake, "--build", source / "build", "-j", "2")
        shutil.copy(source / "build" / f"lib{library}.so", output)
    shutil.rmtree(folder)
    print(run(program, env={**os.environ, "RETORT_OUTSIDE_DIR": str(output)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
