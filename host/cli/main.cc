// The program: everything happens in Main (dispatch.cc) and behind retort/host.h.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <boost/program_options/errors.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "host/cli/command.h"
#include "host/cli/signals.h"
#include "retort/host.h"

// How long the compute threads spin between two parallel regions. The default of the OpenMP runtime
// (milliseconds) halves the speed beside another busy process; with no spinning at all decoding
// alone loses a fifth (docs/decisions/threads.md). The runtime comes with libretort and reads this
// before main, so the program starts itself anew with it; where it can't, it goes on as it is.
void SpinBriefly(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "1000", /*replace=*/0);
  execv("/proc/self/exe", argv);
}

int main(int argc, char** argv) {
  try {
    SpinBriefly(argv);
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
