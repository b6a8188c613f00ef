#!/usr/bin/env python3
"""The installed packages: both components in a prefix that is moved afterwards; a plugin built with
pkg-config alone, an application found by CMake and by pkg-config, and the sizes of the SDK.

Usage: package.py REPOSITORY BUILD
SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

# What a plugin's library must not lack when it is linked by hand (retort_add_plugin does the same).
PLUGIN_FLAGS = ["-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-Wl,-z,defs", "-Wall", "-Wextra",
                "-Werror", '-DRETORT_PLUGIN_LIBRARY="mentions"', '-DRETORT_PLUGIN_VERSION="1.0.0"',
                '-DRETORT_PLUGIN_LICENSE="Apache-2.0"']
APPLICATION = """#include <retort/host.h>
#include <stdio.h>
int main(void) {
  retort_context* context = NULL;
  if (retort_context_create(NULL, &context) != RETORT_OK) return 1;
  puts(retort_version());
  retort_context_destroy(context);
  return 0;
}
"""
PROJECT = """cmake_minimum_required(VERSION 3.25)
project(application LANGUAGES C)
find_package(retort {version} REQUIRED COMPONENTS {components})
add_executable(application application.c)
target_link_libraries(application PRIVATE {targets})
"""
KERNELS = """#include <retort/kernels/level.h>
#include <stdio.h>
int main(void) {
  printf("%d\\n", (int)retort_kernels_level());
  return 0;
}
"""


def run(*command, fails=False, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if (done.returncode != 0) != fails:
        print("$", *command, done.stdout, done.stderr, sep="\n")
        sys.exit(1)
    return done.stdout + (done.stderr if fails else "")


def expect(good, what):
    if not good:
        sys.exit(what)


def install(build, prefix, *components):
    for component in components:
        run("cmake", "--install", build, "--component", component, "--prefix", prefix)


def configure(folder, prefix, version, components, targets, source, fails=False):
    folder.mkdir()
    text = PROJECT.format(version=version, components=components, targets=targets)
    (folder / "CMakeLists.txt").write_text(text)
    (folder / "application.c").write_text(source)
    return run("cmake", "-G", "Ninja", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}",
               fails=fails)


def build_and_run(folder):
    run("cmake", "--build", folder / "build")
    return run(folder / "build" / "application").strip()


def by_pkg_config(repository, prefix, folder):
    """A plugin and an application without CMake."""
    environment = {**os.environ, "PKG_CONFIG_PATH": str(next(prefix.rglob("pkgconfig")))}
    flags = run("pkg-config", "--cflags", "retort", env=environment).split()
    script = next(prefix.rglob("retort_plugin.map"))
    library = folder / "libmentions.so"
    run("cc", *PLUGIN_FLAGS, f"-Wl,--version-script={script}", *flags,
        repository / "examples/reward_c/mentions.c", "-o", library)
    info = run(prefix / "bin/retort", "plugin", "info", "mentions", "--plugin", library)
    expect("1.0.0" in info and "Apache-2.0" in info, info)
    (folder / "plain.c").write_text(APPLICATION)
    flags = run("pkg-config", "--cflags", "--libs", "retort-host", env=environment).split()
    run("cc", "-std=c11", "-Wall", "-Werror", folder / "plain.c", *flags, "-o", folder / "plain")
    return run(folder / "plain", env={**os.environ, "LD_LIBRARY_PATH": str(prefix / "lib")}).strip()


def sizes(prefix):
    files = [p for p in prefix.rglob("*") if p.is_file() and not p.is_symlink()]
    for what, some in [("headers", [p for p in files if p.suffix == ".h"]),
                       ("libretort_kernels.a", [p for p in files if p.suffix == ".a"]),
                       ("package files", [p for p in files if p.suffix not in (".h", ".a")]),
                       ("the SDK", files)]:
        print(f"{what:20} {len(some):3} files {sum(p.stat().st_size for p in some):9} bytes")


def check_engine(prefix):
    """The engine finds LibTorch by the path that it was built with, and nothing by the build folder."""
    dynamic = run("readelf", "-d", prefix / "lib/libretort_engine.so")
    paths = re.findall(r"R(?:UN)?PATH.*\[(.*)\]", dynamic)
    expect(paths, "libretort_engine.so has no path to LibTorch")
    entries = paths[0].split(":")
    expect(all(os.path.isabs(e) and "/torch/" in e or "/nvidia/" in e for e in entries), f"odd path entries: {entries}")
    expect("LibTorch" in run(prefix / "bin/retort", "doctor"), "the installed program does not find its engine")


def main():
    repository, build = (pathlib.Path(a).absolute() for a in sys.argv[1:3])
    for name in ("RETORT_PLUGIN_PATH", "RETORT_PLUGIN_DIR", "RETORT_ENGINE", "RETORT_WORKER", "LD_LIBRARY_PATH"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sdk, both = folder / "sdk", folder / "moved" / "elsewhere"
        install(build, sdk, "sdk")
        sizes(sdk)
        # Moved: nothing in it may know where it was installed.
        install(build, folder / "first", "sdk", "host")
        both.parent.mkdir()
        (folder / "first").rename(both)
        listed = run(both / "bin/retort", "plugin", "list")
        expect(listed.count("built in") >= 10, listed)
        check_engine(both)
        expect((both / "libexec/retort/retort-worker").is_file(), "retort-worker is not installed")

        version = run(both / "bin/retort", "--version").split()[-1]
        minor = ".".join(version.split(".")[:2])
        configure(folder / "host", both, minor, "host", "retort::host", APPLICATION)
        expect(build_and_run(folder / "host") == version, "retort_version() is another")
        configure(folder / "kernels", sdk, minor, "sdk", "retort::kernels", KERNELS)
        build_and_run(folder / "kernels")
        expect(by_pkg_config(repository, both, folder) == version, "retort_version() is another")

        text = configure(folder / "missing", sdk, minor, "host", "retort::host", APPLICATION, fails=True)
        expect("component host is not" in " ".join(text.split()) and "--component host" in text, text)
        text = configure(folder / "unknown", sdk, minor, "hots", "retort::host", APPLICATION, fails=True)
        expect("no component hots" in " ".join(text.split()), text)
        text = configure(folder / "later", sdk, "0.99", "sdk", "retort::sdk", APPLICATION, fails=True)
        expect("0.99" in text, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
