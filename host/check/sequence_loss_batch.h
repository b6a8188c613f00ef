// The sequences of one call of a sequence loss, random but for what a rule sets, and the plugin
// that the rules of sequence_loss_*.cc call on them.
// Letters: S sequences, T tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/check/raw_plugin.h"
#include "host/check/rule.h"
#include "host/check/tensors.h"
#include "retort/abi/draft/loss.h"

namespace retort::host::check {

class SequenceBatch {
 public:
  static constexpr size_t kSides = 11;  // OLD_LOGP to TARGET, in the order of their bits

  // `inputs`: RETORT_SEQUENCE_* bits of the side inputs to give. `elem` f32 or f64. Two sequences
  // in a row make a group. The first tokens of each sequence are masked, and some later ones; a
  // sequence of 1 has nothing scored. Numbers are multiples of 2^-10, so that f32 holds them.
  SequenceBatch(const retort_loss_spec& spec, const std::vector<int64_t>& lengths, uint64_t inputs,
                Elem elem, Rng* rng);

  Tensor cu_seqlens, mask, logp;
  std::array<std::optional<Tensor>, kSides> side;
  Tensor loss, d_logp, d_entropy, d_value, aux;
  // Counts as if this batch were the whole window, until a rule sets others.
  double n_sequences = 1, n_scored = 1, n_groups = 1, n_tokens = 1, accumulation_steps = 1;

  int64_t n_sequences_here() const { return cu_seqlens.size() - 1; }
  int64_t n_tokens_here() const { return mask.size(); }
  bool masked(int64_t t) const { return mask.At(t) == 0; }
  std::optional<Tensor>& Side(uint64_t bit) { return side[Index(bit)]; }
  const std::optional<Tensor>& Side(uint64_t bit) const { return side[Index(bit)]; }

  // Sequences [begin, end), with this batch's counts.
  SequenceBatch Sequences(int64_t begin, int64_t end) const;
  SequenceBatch As(Elem elem) const;
  std::vector<Tensor*> TokenInputs();  // logp and all [T] side inputs
  std::vector<Tensor*> Outputs();
  void Remember();
  std::string Problem() const;

  // Which derivatives are asked for; those without their input never are.
  struct Wanted {
    bool logp = true, entropy = true, value = true;
  };
  retort_sequence_loss_args Args(const Wanted& wanted);

 private:
  static size_t Index(uint64_t bit);
  void Count();
  std::vector<const Tensor*> Inputs() const;
};

std::string SequenceInputName(uint64_t bit);

class SequenceLoss {
 public:
  // OK without a table: not a sequence loss.
  static Result<SequenceLoss> Open(const Subject& subject);
  bool there() const { return table_ != nullptr; }
  const retort_loss_spec* spec() const { return table_->spec(plugin_.get()); }

  struct How {
    SequenceBatch::Wanted wanted = {};
    int32_t n_threads = 1;
    Growth growth = Growth::kExact;
  };
  Status Run(SequenceBatch* batch, const How& how) const;
  Status Run(SequenceBatch* batch) const { return Run(batch, How{}); }
  // For a call that must fail: the status it gave; a misuse of the call is the failure.
  Result<retort_status> RunBroken(SequenceBatch* batch) const;

 private:
  explicit SequenceLoss(RawInstance plugin) : plugin_(std::move(plugin)) {}
  RawInstance plugin_;
  const retort_sequence_loss_v1* table_ = nullptr;
};

}  // namespace retort::host::check
