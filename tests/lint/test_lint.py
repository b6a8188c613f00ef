#!/usr/bin/env python3
"""Lint catches what it should: each case plants one violation in a small clean tree.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import shutil
import tempfile
import unittest

import lint

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
CMAKE = "# SPDX-License-Identifier: Apache-2.0\n"
CLEAN = {
    "abi/include/retort/abi/types.h": SPDX + "#include <stdint.h>\n",
    "core/base/a.h": SPDX + "#include <string>\n",
    "core/base/CMakeLists.txt": CMAKE + "retort_library(core_base SOURCES a.cc)\n",
    "core/json/b.cc": SPDX + '#include <rapidjson/reader.h>\n\n#include "core/base/a.h"\n',
    "core/json/CMakeLists.txt": CMAKE + "retort_library(core_json SOURCES b.cc DEPS core_base)\n",
    "core/ops/CMakeLists.txt":
        CMAKE + "retort_library(core_ops SOURCES c.cc DEPS core_json PRIVATE_DEPS retort::torch_cpu)\n",
    "core/ops/c.cc": SPDX + '#include <ATen/ops/mm.h>\n\n// fsync( in a comment is no call\n'
                            'const char* kText = "rename(";\n',
    "core/io/publish.cc": SPDX + "int f(int fd) { return fsync(fd); }\n",
    "host/cli/main.cc": SPDX + '#include "retort/host.h"\nint main() {}\n',
    "host/cli/CMakeLists.txt":
        CMAKE + "add_executable(retort_cli main.cc)\ntarget_link_libraries(retort_cli PRIVATE retort)\n",
    "host/library/CMakeLists.txt":
        CMAKE + "add_library(retort SHARED x.cc)\ntarget_link_libraries(retort PRIVATE core_json)\n",
    "plugins/reward/one/one.cc": SPDX + '#include "retort/abi/types.h"\n',
    "tests/unit/json/b_test.cc": SPDX + '#include "core/json/b.h"\n#include <fstream>\n',
}
LONG_FUNCTION = SPDX + "int f(int x) {\n" + "  x += 1;\n" * 70 + "  return x;\n}\n"

# name, file, its text, the rule that must speak, a word of its message
VIOLATIONS = [
    ("core's order", "core/base/x.cc", '#include "core/json/b.h"\n', "include", "before it"),
    ("unlisted part of core", "core/misc/x.cc", "int x;\n", "include", "no place"),
    ("core uses host", "core/base/x.cc", '#include "host/plugin/registry.h"\n', "include", "core/"),
    ("kernels use core", "kernels/x.cc", '#include "core/base/a.h"\n', "include", "kernels/"),
    ("abi uses C++", "abi/include/retort/abi/x.h", "#include <vector>\n", "include", "std"),
    ("plugin uses core", "plugins/reward/one/x.cc", '#include "core/base/a.h"\n', "include", "plugins/"),
    ("plugin uses plugin", "plugins/reward/two/x.cc", '#include "plugins/reward/one/one.h"\n',
     "include", "another plugin"),
    ("plugin uses LibTorch", "plugins/reward/one/x.cc", "#include <ATen/ops/mm.h>\n", "include", "LibTorch"),
    ("LibTorch in a header", "core/ops/x.h", "#include <ATen/ops/mm.h>\n", "include", ".cc files"),
    ("LibTorch in json", "core/json/x.cc", "#include <c10/core/Scalar.h>\n", "include", "torch"),
    ("LibTorch in host", "host/session/x.cc", "#include <ATen/ops/mm.h>\n", "include", "torch"),
    ("RapidJSON elsewhere", "core/data/x.cc", "#include <rapidjson/reader.h>\n", "include", "rapidjson"),
    ("PCRE2 elsewhere", "host/chain/x.cc", "#include <pcre2.h>\n", "include", "pcre2"),
    ("Boost.DLL elsewhere", "host/session/x.cc", "#include <boost/dll/shared_library.hpp>\n",
     "include", "boost"),
    ("cli uses host", "host/cli/x.cc", '#include "host/session/session.h"\n', "include", "retort/host.h"),
    ("cli uses core", "host/cli/x.cc", '#include "core/base/a.h"\n', "include", "retort/host.h"),
    ("core includes tests", "core/base/x.cc", '#include "tests/unit/json/b.h"\n', "include", "tests"),
    ("link against the order", "core/base/sub/CMakeLists.txt",
     "retort_library(core_base2 SOURCES a.cc DEPS core_json)\n", "link", "comes before"),
    ("LibTorch linked too early", "core/text/CMakeLists.txt",
     "retort_library(core_text SOURCES a.cc DEPS retort::torch_cpu)\n", "link", "LibTorch"),
    ("plugin links core", "plugins/reward/one/CMakeLists.txt",
     "retort_add_plugin(one SOURCES one.cc)\ntarget_link_libraries(one PRIVATE core_base)\n", "link", "plugin"),
    ("built-in plugin links core", "plugins/reward/one/CMakeLists.txt",
     "retort_builtin(reward one DEPS core_base)\n", "link", "plugin"),
    ("libretort reaches LibTorch", "host/library/more/CMakeLists.txt",
     "target_link_libraries(retort PRIVATE core_ops)\n", "link", "reaches"),
    ("program links core", "host/cli/more/CMakeLists.txt",
     "target_link_libraries(retort_cli PRIVATE core_base)\n", "link", "libretort alone"),
    ("long file", "core/base/x.cc", "int x;\n" * 601, "file-length", "600"),
    ("long main", "host/cli/main.cc", "int x;\n" * 60, "file-length", "main.cc"),
    ("long function", "core/base/x.cc", LONG_FUNCTION, "function-length", "f has"),
    ("long function in a header", "core/base/x.h", LONG_FUNCTION, "function-length", "f has"),
    ("fsync", "core/data/x.cc", "int f() { return fsync(1); }\n", "one-home", "fsync"),
    ("rename", "host/chain/x.cc", "int f() { return rename(a, b); }\n", "one-home", "rename"),
    ("ofstream", "plugins/reward/one/x.cc", "std::ofstream f;\n", "one-home", "ofstream"),
    ("random device", "core/data/x.cc", "std::mt19937 r;\n", "one-home", "mt19937"),
    ("clock", "host/chain/x.cc", "auto t = std::chrono::steady_clock::now();\n", "one-home", "clock"),
    ("thread count", "kernels/x.cc", "int n = omp_get_max_threads();\n", "one-home", "omp_"),
    ("catch", "core/base/x.cc", "void f() { try { } catch (...) { } }\n", "one-home", "catch"),
    ("dlclose", "host/plugin/x.cc", "void f() { dlclose(h); }\n", "one-home", "dlclose"),
    ("system", "host/chain/x.cc", 'void f() { std::system("x"); }\n', "one-home", "system"),
    ("popen", "host/chain/x.cc", 'void f() { popen("x", "r"); }\n', "one-home", "popen"),
    ("dlopen", "host/session/x.cc", "void f() { dlopen(a, 1); }\n", "one-home", "dlopen"),
    ("shared_ptr in core", "core/base/x.h", "std::shared_ptr<int> p;\n", "one-home", "shared_ptr"),
    ("wide LibTorch header", "core/ops/x.cc", "#include <ATen/ATen.h>\n", "wide-include", "ATen"),
    ("machine path", "docs/x.md", "see /ho" "me/me/x\n", "machine-path", "machine"),
    ("unfinished", "core/base/x.cc", "// TO" "DO: later\n", "unfinished", "TO"),
    ("format", "core/base/x.cc", "int   x ;\n", "format", "clang-format"),
]


class LintTest(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="retort-lint-"))
        self.addCleanup(shutil.rmtree, self.root)
        source = pathlib.Path(__file__).resolve().parents[2] / ".clang-format"
        shutil.copy(source, self.root / ".clang-format")
        for path, text in CLEAN.items():
            self.write(path, text)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def problems(self, **options):
        return lint.run(self.root, **{"exceptions": [], **options})

    def test_clean_tree_has_no_problem(self):
        self.assertEqual([str(p) for p in self.problems()], [])

    def test_each_planted_violation_is_caught(self):
        for name, path, text, rule, word in VIOLATIONS:
            with self.subTest(name):
                before = self.root / path
                kept = before.read_text() if before.exists() else None
                head = SPDX if path.endswith((".h", ".cc")) else CMAKE
                self.write(path, text if "SPDX" in text else head + text)
                found = self.problems()
                self.assertTrue(any(p.rule == rule and p.path == path and word in p.text
                                    or rule == "link" and p.rule == rule and word in p.text
                                    for p in found), [str(p) for p in found])
                before.unlink() if kept is None else before.write_text(kept)

    def test_missing_spdx_line_is_caught(self):
        for path in ("core/base/x.h", "tests/x.py", "core/x.cmake", "tools/x.sh"):
            self.write(path, "\n")
            self.assertIn(("spdx", path), [(p.rule, p.path) for p in self.problems()])

    def test_exception_excuses_its_rule_and_path_alone(self):
        self.write("core/data/x.cc", SPDX + "int f() { return fsync(1); }\n")
        self.assertEqual(self.problems(exceptions=[("one-home", "core/data/x.cc", "why")]), [])
        self.assertEqual(self.problems(exceptions=[("one-home", "core/data/", "why")]), [])
        self.assertTrue(self.problems(exceptions=[("format", "core/data/x.cc", "why")]))

    def test_exception_that_excuses_nothing_is_reported(self):
        found = self.problems(exceptions=[("one-home", "core/data/gone.cc", "why")])
        self.assertEqual([p.rule for p in found], ["exception"])


if __name__ == "__main__":
    unittest.main()
