#!/usr/bin/env python3
"""What `retort plugin new` refuses: with exit code 2, a text that helps, and nothing written.

Usage: new_refusals.py RETORT
SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import subprocess
import sys
import tempfile

CASES = [  # arguments, what the message has
    (["rewrad", "x"], ['"rewrad"', 'did you mean "reward"?']),
    (["sequence_loss", "x"], ['did you mean "sequence-loss"?']),
    (["reward", "x", "--lang", "rust"], ['"rust"', "c or c++"]),
    (["reward", "My-Reward"], ['"My-Reward"', "a-z"]),
    (["reward", "1st"], ['"1st"']),
    (["reward", "a/b"], ['"a/b"']),
    (["reward", "../up"], ['"../up"']),
    (["reward", "x" * 65], ["64"]),
    (["reward", "test"], ["CMake"]),
    (["reward", "full"], ["full", "not empty", "--output"]),
    (["reward", "y", "--output", "full"], ["not empty"]),
    (["reward", "file"], ["no folder"]),
    (["reward"], ["NAME"]),
]


def main():
    retort = pathlib.Path(sys.argv[1]).absolute()
    failures = []

    def check(good, what):
        if not good:
            failures.append(what)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "full").mkdir()
        (folder / "full" / "notes.txt").write_text("mine")
        (folder / "file").write_text("mine")
        before = sorted(folder.rglob("*"))
        for arguments, parts in CASES:
            done = subprocess.run([retort, "plugin", "new", *arguments], cwd=folder, capture_output=True, text=True)
            check(done.returncode == 2, f"{arguments}: exit code {done.returncode}\n{done.stderr}")
            for part in parts:
                check(part in done.stderr, f"{arguments}: {part!r} is not in {done.stderr!r}")
            check(sorted(folder.rglob("*")) == before, f"{arguments}: something was written")
        check((folder / "full" / "notes.txt").read_text() == "mine", "a file was overwritten")

        # An empty folder is fine, so are names that are words of C or of the SDK.
        (folder / "empty").mkdir()
        for arguments, source in [(["filter", "int", "--output", "empty"], "empty/int.cc"),
                                  (["reward", "sample", "--lang", "c"], "sample/sample.c"),
                                  (["reward", "a-b_c"], "a-b_c/a_b_c.cc")]:
            done = subprocess.run([retort, "plugin", "new", *arguments], cwd=folder, capture_output=True, text=True)
            check(done.returncode == 0, f"{arguments}: {done.stderr}")
            check((folder / source).is_file(), f"{arguments}: no {source}")
            check("@" not in (folder / source).read_text(), f"{source}: a word was not filled in")
    print("\n".join(failures) or f"{len(CASES)} refusals are as they should be")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
