// Commands run through retort/host.h, as any embedder would; results and events collected.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/json/json.h"
#include "retort/host.h"

namespace retort::host {

inline std::string Fixture(const std::string& name) {
  return std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + name;
}
inline std::string Quote(const std::string& text) { return json::Writer().String(text).Take(); }

struct Ran {
  retort_status status = 0;
  int32_t outcome = 0;
  std::string message, text;
  std::vector<std::string> lines, warnings, messages;
  json::Document Line(size_t i) const {
    return json::Document::Parse(lines.at(i), "line", {.max_bytes = 1 << 24}).value();
  }
};

class HostTest : public testing::Test {
 protected:
  HostTest() {
    retort_context_options options{};
    options.struct_size = sizeof options;
    EXPECT_EQ(retort_context_create(&options, &context_), RETORT_OK);
  }
  ~HostTest() override { retort_context_destroy(context_); }

  Ran Run(const std::string& name, const std::string& args, const std::string& input = "") {
    ran_ = {};
    input_ = input;
    retort_command_io io{};
    io.struct_size = sizeof io;
    io.flags = io_flags_;
    io.ctx = this;
    io.line = TakeLine;
    io.text = [](void* ctx, retort_str text) {
      static_cast<HostTest*>(ctx)->ran_.text += std::string(text.ptr, text.len);
      return 0;
    };
    io.event = TakeEvent;
    io.read = Read;
    retort_command_result result{};
    result.struct_size = sizeof result;
    ran_.status = retort_command(context_, name.c_str(), {args.data(), args.size()}, &io, &result);
    EXPECT_EQ(ran_.status, result.status);
    ran_.outcome = result.outcome;
    ran_.message.assign(result.message.ptr, result.message.len);
    return ran_;
  }

  // A command that must end well, and its lines.
  Ran MustRun(const std::string& name, const std::string& args, const std::string& input = "") {
    Ran ran = Run(name, args, input);
    EXPECT_EQ(ran.outcome, RETORT_OUTCOME_DONE) << ran.message;
    return ran;
  }

  void ExpectUsage(const std::string& name, const std::string& args, const std::string& part) {
    const Ran ran = Run(name, args);
    EXPECT_EQ(ran.outcome, RETORT_OUTCOME_USAGE) << ran.message;
    EXPECT_THAT(ran.message, testing::HasSubstr(part));
  }
  void ExpectFailure(const std::string& name, const std::string& args, const std::string& input,
                     const std::string& part) {
    const Ran ran = Run(name, args, input);
    EXPECT_EQ(ran.outcome, RETORT_OUTCOME_FAILED) << ran.message;
    EXPECT_THAT(ran.message, testing::HasSubstr(part));
  }

  retort_context* context_ = nullptr;
  uint32_t io_flags_ = 0;
  size_t lines_taken_ = SIZE_MAX;  // after so many nobody listens

 private:
  static int32_t TakeLine(void* ctx, retort_str line) {
    auto* self = static_cast<HostTest*>(ctx);
    if (self->ran_.lines.size() >= self->lines_taken_) return 1;
    self->ran_.lines.emplace_back(line.ptr, line.len);
    return 0;
  }
  static void TakeEvent(void* ctx, const retort_command_event* event) {
    auto* self = static_cast<HostTest*>(ctx);
    const std::string text(event->text.ptr == nullptr ? "" : event->text.ptr, event->text.len);
    if (event->kind == RETORT_EVENT_WARNING) self->ran_.warnings.push_back(text);
    if (event->kind == RETORT_EVENT_MESSAGE) self->ran_.messages.push_back(text);
  }
  // Three bytes at a time: lines and characters arrive in pieces.
  static int64_t Read(void* ctx, void* data, uint64_t n) {
    auto* self = static_cast<HostTest*>(ctx);
    const size_t some = std::min<size_t>({self->input_.size(), n, 3});
    std::memcpy(data, self->input_.data(), some);
    self->input_.erase(0, some);
    return static_cast<int64_t>(some);
  }

  Ran ran_;
  std::string input_;
};

}  // namespace retort::host
