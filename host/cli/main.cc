// The program: everything happens in Main (dispatch.cc) and behind retort/host.h.
// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options/errors.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "host/cli/command.h"
#include "host/cli/signals.h"
#include "retort/host.h"

// How long the compute threads spin between two parallel regions, read by the OpenMP runtime when
// a library first brings it. Its default (milliseconds) halves the speed beside another busy
// process; with no spinning at all decoding alone loses a fifth (docs/decisions/threads.md).
void SpinBriefly() {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) setenv("GOMP_SPINCOUNT", "1000", /*replace=*/0);
}

int main(int argc, char** argv) {
  try {
    SpinBriefly();
    retort::cli::NamePluginsThatCrash();
    return retort::cli::Main({argv + 1, argv + argc});
  } catch (const boost::program_options::error& e) {
    std::fprintf(stderr, "retort: %s\nTry `retort --help`.\n", e.what());
    return RETORT_OUTCOME_USAGE;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "retort: %s\n", e.what());
    return RETORT_OUTCOME_FAILED;
  }
}
