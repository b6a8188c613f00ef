// Standard output for results, standard error for progress and messages; a bar on a terminal.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>
#include <string_view>

#include "retort/host.h"

namespace retort::cli {

class Terminal {
 public:
  explicit Terminal(bool quiet);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool output_is_terminal() const { return output_is_terminal_; }
  bool error_is_terminal() const { return error_is_terminal_; }
  bool broken_pipe() const { return broken_pipe_; }

  // False once nobody reads standard output any more.
  bool Line(std::string_view line);
  bool Text(std::string_view text);
  void Event(const retort_command_event& event);
  // Something for people on standard error, on a line of its own.
  void Message(std::string_view prefix, std::string_view text);

  // The callbacks for retort_command, with this as their ctx.
  retort_command_io Io();

 private:
  // All below with mutex_ held.
  bool Write(std::string_view bytes);
  void WriteMessage(std::string_view prefix, std::string_view text);
  void ShowBar(double fraction, std::string_view text);
  void ClearBar();

  std::mutex mutex_;  // log lines come from any thread
  bool quiet_, output_is_terminal_, error_is_terminal_;
  bool bar_shown_ = false, broken_pipe_ = false, mid_line_ = false;
};

}  // namespace retort::cli
