// The process that a rule runs in: `retort-worker check …`. It opens the library under test, runs
// one rule (or lists the plugins) and reports on a descriptor of its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace retort::host::check {

// For main of the worker program when argv[1] is "check"; the result is its exit code. Arguments:
// check <descriptor> <request as JSON>, written by RunChild (run.h).
int ChildMain(int argc, char** argv);

}  // namespace retort::host::check
