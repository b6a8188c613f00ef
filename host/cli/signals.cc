// SPDX-License-Identifier: Apache-2.0
#include "host/cli/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace retort::cli {
namespace {

// A handler has no argument: what it needs is reachable from here, lock-free.
std::atomic<retort_context*> g_context{nullptr};
std::atomic<int> g_signals{0};

void OnSignal(int signal) {
  if (g_signals.fetch_add(1) > 0 && signal == SIGINT) {
    std::signal(SIGINT, SIG_DFL);  // the process dies of it when this handler returns
    raise(SIGINT);
    return;
  }
  if (retort_context* context = g_context.load()) retort_cancel(context);
  static constexpr char kText[] = "\nretort: stopping cleanly; Ctrl-C again to kill\n";
  if (signal == SIGINT && isatty(STDERR_FILENO) == 1) {
    [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, kText, sizeof kText - 1);
  }
}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

SignalScope::SignalScope(retort_context* context) {
  g_context = context;
  Handle(SIGINT, OnSignal);
  Handle(SIGTERM, OnSignal);
  Handle(SIGPIPE, SIG_IGN);
}

SignalScope::~SignalScope() {
  Handle(SIGINT, SIG_DFL);
  Handle(SIGTERM, SIG_DFL);
  g_context = nullptr;
}

bool SignalScope::interrupted() { return g_signals.load() > 0; }

}  // namespace retort::cli
