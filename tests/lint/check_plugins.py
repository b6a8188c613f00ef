#!/usr/bin/env python3
"""Built plugins are closed: each exports its entry function alone and needs none of LibTorch's or
retort's libraries.

Usage: check_plugins.py FOLDER (build/release/lib/retort/plugins). Needs binutils.
SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import re
import subprocess
import sys

ENTRY = "retort_plugin_entry_v1"
FOREIGN = re.compile(r"libtorch|libc10|libretort|libtorch_cpu")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def problems(path):
    exported = [line.split()[-1] for line in output("nm", "-D", "--defined-only", path).splitlines()]
    if exported != [ENTRY]:
        yield f"exports {exported}, should export {ENTRY} alone"
    for needed in re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "-d", path)):
        if FOREIGN.search(needed):
            yield f"needs {needed}"


def main():
    plugins = sorted(pathlib.Path(sys.argv[1]).rglob("*.so"))
    if not plugins:
        print(f"no plugin below {sys.argv[1]}", file=sys.stderr)
        return 1
    found = [f"{path.name}: {why}" for path in plugins for why in problems(path)]
    print("\n".join(found) if found else f"{len(plugins)} plugins are closed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
