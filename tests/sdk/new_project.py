#!/usr/bin/env python3
"""A plugin from an empty folder, as its author would do it: `retort plugin new`, then configure,
build and test with the installed SDK alone, then `retort plugin check` and `retort plugin info`.

Usage: new_project.py PREFIX RETORT KIND...       every kind in C and in C++
PREFIX holds the installed SDK; RETORT is the program.
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

C_FLAGS = "-Wall -Wextra -Werror"
CXX_FLAGS = C_FLAGS + " -Wconversion -Wshadow"


def run(*command, **options):
    begin = time.monotonic()
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        print("$", *command, done.stdout, done.stderr, sep="\n")
        sys.exit(1)
    return done.stdout, time.monotonic() - begin


def launchers():
    if not shutil.which("ccache"):
        return []
    return [f"-DCMAKE_{lang}_COMPILER_LAUNCHER=ccache" for lang in ("C", "CXX")]


def make(folder, prefix, retort, kind, lang):
    """One project; gives the seconds of each step."""
    name = f"my-{kind}"
    seconds = {}
    _, seconds["new"] = run(retort, "plugin", "new", kind, name, "--lang", lang, cwd=folder)
    project = folder / name
    configure = ["cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}"]
    flags = [f"-DCMAKE_C_FLAGS={C_FLAGS}"] if lang == "c" else [f"-DCMAKE_CXX_FLAGS={CXX_FLAGS}"]
    # Unused with a language that the project doesn't have, which is fine.
    extra = ["-G", "Ninja", "--no-warn-unused-cli", *launchers()]
    _, seconds["configure"] = run(*configure, *flags, *extra, cwd=project)
    _, seconds["build"] = run("cmake", "--build", "build", "-j", "2", cwd=project)
    out, seconds["test"] = run("ctest", "--test-dir", "build", "--output-on-failure", cwd=project)
    if "100% tests passed" not in out or "out of 1" not in out:
        sys.exit(f"ctest ran no test of {kind} in {lang}:\n{out}")
    library = project / "build" / f"lib{name}.so"
    _, seconds["check"] = run(retort, "plugin", "check", library)
    abi_kind = "loss" if kind == "sequence-loss" else kind
    out, _ = run(retort, "plugin", "info", f"{abi_kind}/{name}", "--plugin", library, "--json")
    info = json.loads(out)
    if (info["kind"], info["id"], info["version"]) != (abi_kind, name, "0.1.0"):
        sys.exit(f"plugin info says {out}")
    return seconds


def main():
    prefix, retort = (pathlib.Path(a).absolute() for a in sys.argv[1:3])
    # Nothing but the installed SDK may be found, and no plugin but the one made.
    for name in ("RETORT_PLUGIN_PATH", "CMAKE_PREFIX_PATH", "CPATH", "CPLUS_INCLUDE_PATH"):
        os.environ.pop(name, None)
    for kind in sys.argv[3:]:
        for lang in ("c", "c++"):
            # A name that stays, so that ccache finds what it has compiled before.
            folder = pathlib.Path(tempfile.gettempdir()) / f"retort-new-{os.getuid()}" / f"{kind}-{lang}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            seconds = make(folder, prefix, retort, kind, lang)
            print(f"{kind:14} {lang:4}", *(f"{k} {v:.2f} s" for k, v in seconds.items()))
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
