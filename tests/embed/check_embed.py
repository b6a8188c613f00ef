#!/usr/bin/env python3
"""Applications from outside: installs retort into a fresh folder, builds examples/embed_c and
examples/embed_cpp (and the plugin of examples/reward_c) against that alone, runs them on a fixture
model, and compares what they print with the goldens beside this file.

Usage: check_embed.py REPOSITORY BUILD CMAKE [--write]
SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

FLAGS = "-Wall -Wextra -Werror"
SAMPLES = """\
{"prompt": "Why?", "completion": "Because it rains, so take a coat."}
{"prompt": "Why?", "completion": "No reason."}
"""
ENTRIES = '{"plugin": "mentions", "config": {"phrases": ["Because", "so "]}}'


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        print(" ".join(str(c) for c in command), done.stdout, done.stderr, sep="\n")
        sys.exit(1)
    return done.stdout


def build(cmake, repository, folder, prefix, example):
    source = folder / example  # a copy: nothing of the repository is within reach by accident
    shutil.copytree(repository / "examples" / example, source)
    run(cmake, "-G", "Ninja", "-S", source, "-B", source / "build", f"-DCMAKE_PREFIX_PATH={prefix}",
        "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_C_FLAGS={FLAGS}", f"-DCMAKE_CXX_FLAGS={FLAGS} -Wconversion -Wshadow")
    run(cmake, "--build", source / "build")
    return source / "build"


def check_pkg_config(repository, folder, prefix):
    env = {**os.environ, "PKG_CONFIG_PATH": str(next(prefix.rglob("pkgconfig")))}
    flags = run("pkg-config", "--cflags", "--libs", "retort-host", env=env).split()
    run("cc", "-std=c11", repository / "examples/embed_c/embed_c.c", *flags, "-o", folder / "by_pkg_config")


def compare(name, text, golden, write):
    if write:
        golden.write_text(text)
        return True
    if golden.exists() and golden.read_text() == text:
        return True
    print(f"{name} printed something else than {golden.name}:", text, sep="\n")
    return False


def main():
    repository, build_dir, cmake = (pathlib.Path(a) for a in sys.argv[1:4])
    repository, build_dir = repository.resolve(), build_dir.resolve()
    write = "--write" in sys.argv
    goldens = repository / "tests/embed/golden"
    fixtures = repository / "tests/fixtures"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RETORT_")}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prefix = folder / "prefix"
        for component in ("host", "sdk"):
            run(cmake, "--install", build_dir, "--component", component, "--prefix", prefix)
        plugin = build(cmake, repository, folder, prefix, "reward_c") / "libmentions.so"
        program = build(cmake, repository, folder, prefix, "embed_c") / "embed_c"
        check_pkg_config(repository, folder, prefix)
        (folder / "samples.jsonl").write_text(SAMPLES)
        printed = run(program, plugin, ENTRIES, folder / "samples.jsonl", fixtures / "llama",
                      "What is 17 * 3?", env=clean, cwd=folder)
        same = compare("embed_c", printed, goldens / "embed_c.txt", write)
        program = build(cmake, repository, folder, prefix, "embed_cpp") / "embed_cpp"
        arguments = (fixtures / "llama", fixtures / "gsm8k/train_small.jsonl", folder / "out")
        printed = run(program, *arguments, env=clean, cwd=folder)
        same = compare("embed_cpp", printed, goldens / "embed_cpp.txt", write) and same
        again = run(program, *arguments, env=clean, cwd=folder)
        if "0 stages ran" not in again:
            print("a second run of embed_cpp did not find its stages done:", again, sep="\n")
            same = False
    print("the example applications print what they should" if same else "different output")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
