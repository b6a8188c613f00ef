// SPDX-License-Identifier: Apache-2.0
#include "host/cli/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>

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

void WriteError(const char* text) {
  for (size_t left = std::strlen(text); left > 0;) {
    const ssize_t written = write(STDERR_FILENO, text, left);
    if (written <= 0) return;
    text += written;
    left -= static_cast<size_t>(written);
  }
}

const char* NameOf(int signal) {
  switch (signal) {
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    case SIGILL: return "SIGILL";
    default: return "SIGABRT";
  }
}

void OnCrash(int signal) {
  if (const char* plugin = retort_running_plugin()) {
    WriteError("\nretort: ");
    WriteError(NameOf(signal));
    WriteError(" inside the plugin ");
    WriteError(plugin);
    WriteError("; a run goes on with the same command\n");
  }
  raise(signal);  // blocked until this returns, and by then handled as if nobody had asked
}

// A plugin that calls exit must not look like a command that ended well.
void OnExit() {
  const char* plugin = retort_running_plugin();
  if (plugin == nullptr) return;
  WriteError("\nretort: the plugin ");
  WriteError(plugin);
  WriteError(" ended the program; a run goes on with the same command\n");
  _exit(RETORT_OUTCOME_FAILED);
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
  Handle(SIGXFSZ, SIG_IGN);  // a write beyond the limit of file sizes is an error, not a death
}

SignalScope::~SignalScope() {
  Handle(SIGINT, SIG_DFL);
  Handle(SIGTERM, SIG_DFL);
  g_context = nullptr;
}

void NamePluginsThatCrash() {
  std::atexit(OnExit);
  // A stack of its own: an overflow leaves none.
  alignas(16) static char stack[64 * 1024];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, nullptr);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    struct sigaction action {};
    action.sa_handler = OnCrash;
    action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
  }
}

bool SignalScope::interrupted() { return g_signals.load() > 0; }

}  // namespace retort::cli
