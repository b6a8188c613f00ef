// retort-worker: holds plugins for a host that does not want them in its own process. Started by
// retort, with the descriptors of frame.h; never by people.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "host/worker/program/serve.h"

#ifdef RETORT_WITH_CHECK
#include "host/check/child.h"
#endif

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "serve" && argc == 2) return retort::host::Serve();
#ifdef RETORT_WITH_CHECK
  if (mode == "check") return retort::host::check::ChildMain(argc, argv);
#endif
  std::fputs("retort-worker runs plugins for retort, which starts it; it is no command\n", stderr);
  return 2;
}
