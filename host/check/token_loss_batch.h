// The rows of one call of a token loss, random but for what a rule sets, and the plugin that the
// rules of token_loss_rules*.cc call on them.
// Letters: R rows, V vocabulary, K entries of the teacher's cache.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/check/raw_plugin.h"
#include "host/check/rule.h"
#include "host/check/tensors.h"
#include "retort/abi/draft/loss.h"

namespace retort::host::check {

struct TokenShape {
  int64_t rows = 1, vocab = 7;
  Elem elem = Elem::kF32;
  int64_t pad = 0;  // elements between rows of logits, teacher_logits and aux
};

class TokenBatch {
 public:
  // `inputs`: RETORT_TOKEN_* bits of the side inputs to give. Weights are of several sizes and both
  // signs, never 0; labels include 0 and V - 1; three rows make a sequence.
  TokenBatch(const retort_loss_spec& spec, const TokenShape& shape, uint64_t inputs, Rng* rng);

  Tensor logits, labels, weight, loss, aux;
  std::optional<Tensor> teacher_logits, teacher_ids, teacher_logp, teacher_tail, sequence_id,
      position;

  TokenBatch Rows(int64_t begin, int64_t end) const;
  // The same with logits and outputs of another dtype, or another gap between rows.
  TokenBatch As(Elem elem, int64_t pad = 0) const;
  int64_t n_rows() const { return logits.shape()[0]; }
  int64_t vocab() const { return logits.shape()[1]; }
  double LargestWeight() const;
  double WeightedLoss() const;  // sum of weight * loss
  // Before and after a call: were inputs written to, or bytes outside of the tensors?
  void Remember();
  std::string Problem(bool want_grad) const;
  retort_token_loss_args Args(bool want_grad, bool want_aux = true);

 private:
  void FillTeacher(const retort_loss_spec& spec, const TokenShape& shape, uint64_t inputs,
                   Rng* rng);
  std::vector<const Tensor*> Inputs() const;
};

// Side inputs to try: all that the spec names; if it takes teachers in both forms, once each.
std::vector<uint64_t> InputSets(const retort_loss_spec& spec);
std::string InputName(uint64_t bit);

class TokenLoss {
 public:
  // OK without a table: not a token loss.
  static Result<TokenLoss> Open(const Subject& subject);
  bool there() const { return table_ != nullptr; }
  const retort_loss_spec* spec() const { return table_->spec(plugin_.get()); }

  struct How {
    bool want_grad = true, want_aux = true;
    int32_t n_threads = 1;
    Growth growth = Growth::kExact;
  };
  Status Run(TokenBatch* batch, const How& how) const;
  Status Run(TokenBatch* batch) const { return Run(batch, How{}); }
  // For a call that must fail: the status it gave; a misuse of the call is the failure.
  Result<retort_status> RunBroken(const retort_token_loss_args& args) const;

 private:
  explicit TokenLoss(RawInstance plugin) : plugin_(std::move(plugin)) {}
  RawInstance plugin_;
  const retort_token_loss_v1* table_ = nullptr;
};

}  // namespace retort::host::check
