// One sample while it is being made: its ids, its text, and the rules that end it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/base/rng.h"
#include "core/engine/engine.h"
#include "core/generate/sampler.h"
#include "core/generate/token_counts.h"
#include "core/text/tokenizer.h"

namespace retort::generate {

class Sequence {
 public:
  // request and options outlive the object. Starts with the forced prefix.
  Sequence(const engine::GenerateRequest& request, int32_t index,
           const engine::GenerateOptions& options);

  // Takes a drawn token; ends the sample if a rule says so.
  void Push(const Draw& draw);
  void End(engine::Finish finish, std::string error = {});

  bool finished() const { return finished_; }
  const engine::Completion& completion() const { return completion_; }
  const engine::GenerateRequest& request() const { return request_; }
  // Where the next token to feed stands: prompt and completion so far, less that token.
  int32_t last_id() const { return completion_.ids.back(); }
  int64_t last_position() const;
  // The counter-based number of the next token.
  double NextUniform() const { return Rng(key_, completion_.ids.size()).Uniform(); }
  // Of prompt and completion so far; empty if no penalty asks for them.
  std::span<const TokenCounts::Entry> counts() const { return counts_.entries(); }
  // Ids that must not be drawn next.
  std::span<const int32_t> banned() const;

 private:
  void Add(int32_t id, float logp);
  void AddText(int32_t id);
  void Emit(std::string_view text);
  void FinishText();

  const engine::GenerateRequest& request_;
  const engine::GenerateOptions& options_;
  const RngKey key_;
  const bool streams_;  // text is made token by token, not at the end
  text::StreamDecoder decoder_;
  text::StopMatcher matcher_;
  TokenCounts counts_;
  engine::Completion completion_;
  bool finished_ = false;
};

}  // namespace retort::generate
