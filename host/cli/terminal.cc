// SPDX-License-Identifier: Apache-2.0
#include "host/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>

#include "host/cli/signals.h"

namespace retort::cli {
namespace {

constexpr int kBarCells = 24;

size_t TerminalColumns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

// At most `columns` characters, cut at a character's start: the bar must not wrap.
std::string_view CutToColumns(std::string_view text, size_t columns) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool starts = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (starts && seen++ == columns) return text.substr(0, i);
  }
  return text;
}

std::string_view View(retort_str text) {
  return text.ptr == nullptr ? std::string_view() : std::string_view(text.ptr, text.len);
}

Terminal& Self(void* ctx) { return *static_cast<Terminal*>(ctx); }

int64_t ReadInput(void*, void* data, uint64_t n) {
  for (;;) {
    const ssize_t got = read(STDIN_FILENO, data, n);
    if (got >= 0 || errno != EINTR || SignalScope::interrupted()) return got;
  }
}

}  // namespace

Terminal::Terminal(bool quiet)
    : quiet_(quiet),
      output_is_terminal_(isatty(STDOUT_FILENO) == 1),
      error_is_terminal_(isatty(STDERR_FILENO) == 1) {}

Terminal::~Terminal() {
  ClearBar();
  if (mid_line_) Write("\n");
}

bool Terminal::Write(std::string_view bytes) {
  if (broken_pipe_) return false;
  const bool ok = std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size() &&
                  std::fflush(stdout) == 0;
  broken_pipe_ = !ok;
  return ok;
}

bool Terminal::Line(std::string_view line) {
  const std::lock_guard lock(mutex_);
  if (output_is_terminal_) ClearBar();
  return Write(line) && Write("\n");
}

bool Terminal::Text(std::string_view text) {
  if (text.empty()) return true;
  const std::lock_guard lock(mutex_);
  ClearBar();
  mid_line_ = text.back() != '\n';
  return Write(text);
}

void Terminal::ShowBar(double fraction, std::string_view text) {
  std::string line;
  if (fraction >= 0) {
    const int filled = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * kBarCells);
    line = "[" + std::string(static_cast<size_t>(filled), '=') +
           std::string(static_cast<size_t>(kBarCells - filled), ' ') + "] ";
  }
  line += text;
  const std::string cut(CutToColumns(line, TerminalColumns() - 1));
  std::fprintf(stderr, "\r%s\x1b[K", cut.c_str());
  std::fflush(stderr);
  bar_shown_ = true;
}

void Terminal::ClearBar() {
  if (!bar_shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  bar_shown_ = false;
}

void Terminal::Message(std::string_view prefix, std::string_view text) {
  const std::lock_guard lock(mutex_);
  WriteMessage(prefix, text);
}

void Terminal::WriteMessage(std::string_view prefix, std::string_view text) {
  ClearBar();
  std::fprintf(stderr, "%.*s%.*s\n", static_cast<int>(prefix.size()), prefix.data(),
               static_cast<int>(text.size()), text.data());
}

void Terminal::Event(const retort_command_event& event) {
  const std::string_view text = View(event.text);
  const std::lock_guard lock(mutex_);
  if (event.kind == RETORT_EVENT_WARNING) return WriteMessage("warning: ", text);
  if (quiet_) return;
  if (event.kind == RETORT_EVENT_PROGRESS && mid_line_) return;  // a completion is being shown
  if (event.kind == RETORT_EVENT_PROGRESS && error_is_terminal_) {
    return ShowBar(event.fraction, text);
  }
  WriteMessage("", text);
}

retort_command_io Terminal::Io() {
  retort_command_io io{};
  io.struct_size = sizeof io;
  io.flags =
      (error_is_terminal_ ? RETORT_IO_WATCHED : 0u) | (output_is_terminal_ ? RETORT_IO_STREAM : 0u);
  io.ctx = this;
  io.line = [](void* ctx, retort_str line) { return Self(ctx).Line(View(line)) ? 0 : 1; };
  io.text = [](void* ctx, retort_str text) { return Self(ctx).Text(View(text)) ? 0 : 1; };
  io.event = [](void* ctx, const retort_command_event* event) { Self(ctx).Event(*event); };
  io.read = ReadInput;
  return io;
}

}  // namespace retort::cli
