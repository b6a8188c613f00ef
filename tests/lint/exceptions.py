"""Every exception to a lint rule, with its reason. (rule, path or folder with '/', reason)

A reason that no longer holds is removed here, not worked around; lint reports an entry that
excuses nothing.
SPDX-License-Identifier: Apache-2.0
"""

EXCEPTIONS = [
    ("one-home", "core/engine/edge.cc", "the one place where LibTorch's exceptions become Error"),
    ("one-home", "core/train/param_groups.cc", "std::regex reports a bad pattern by throwing; no LibTorch here"),
    ("one-home", "core/engine/edge.h", "the one place where LibTorch's exceptions become Error"),
    ("one-home", "host/session/session.cc", "opens libretort_engine, which is no plugin, by dlopen"),
    ("one-home", "core/ops/blas.cc", "opens LibTorch, which is no plugin, when a product needs it"),
    ("include", "sdk/include/retort/sdk/testing_c.h", "a test of a plugin plays the host: dlfcn.h"),
    ("one-home", "sdk/include/retort/sdk/testing_c.h", "a test of a plugin plays the host: dlopen"),
    ("one-home", "host/check/library_open.cc",
     "a rule about what opening a library does, without the loader that undoes it"),
    ("one-home", "host/check/family_weights.cc", "opens libretort_engine, which is no plugin, by dlopen"),
]
