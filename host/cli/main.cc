// The program: everything happens in Main (dispatch.cc) and behind retort/host.h.
// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options/errors.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "host/cli/command.h"
#include "retort/host.h"

int main(int argc, char** argv) {
  try {
    return retort::cli::Main({argv + 1, argv + argc});
  } catch (const boost::program_options::error& e) {
    std::fprintf(stderr, "retort: %s\nTry `retort --help`.\n", e.what());
    return RETORT_OUTCOME_USAGE;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "retort: %s\n", e.what());
    return RETORT_OUTCOME_FAILED;
  }
}
