// Packed sequences for the tests of sequence losses: numbers of the golden scripts, calls through
// the checked wrapper, parts and other orders of a batch. Letters: S sequences, T tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "retort/abi/draft/loss.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {

struct Lengths {
  int prompt, completion;
};

// What losses of all batches of a window are divided by.
struct Window {
  double sequences = 0, scored = 0, groups = 0, tokens = 0, steps = 1, max_completion = 9;
};

template <class T>
struct PackedBatch {
  std::vector<int32_t> cu = {0};
  std::vector<uint8_t> mask;
  // [T], by name; masked tokens hold NaN.
  std::map<std::string, std::vector<T>> values;
  std::vector<int32_t> group_id;
  std::vector<T> target;
  std::vector<size_t> completion;  // packed indices of the completion tokens

  size_t n_tokens() const { return mask.size(); }
  size_t n_sequences() const { return cu.size() - 1; }
  void AddTo(Window* window) const {
    for (size_t s = 0; s < n_sequences(); ++s) {
      const int n = std::accumulate(mask.begin() + cu[s], mask.begin() + cu[s + 1], 0);
      window->sequences += 1;
      window->scored += n > 0 ? 1 : 0;
      window->tokens += n;
    }
    window->groups += static_cast<double>(std::set(group_id.begin(), group_id.end()).size());
  }
  // The given sequences, in that order.
  PackedBatch Pick(const std::vector<size_t>& order) const {
    PackedBatch out;
    for (const size_t s : order) {
      for (auto t = static_cast<size_t>(cu[s]); t < static_cast<size_t>(cu[s + 1]); ++t) {
        out.mask.push_back(mask[t]);
        for (const auto& [name, from] : values) out.values[name].push_back(from[t]);
      }
      out.cu.push_back(static_cast<int32_t>(out.mask.size()));
      if (!group_id.empty()) out.group_id.push_back(group_id[s]);
      if (!target.empty()) out.target.push_back(target[s]);
    }
    return out;
  }
};

// The batch of make_policy_goldens.py, drawn in its order: every fourth token is masked, and all
// of sequence `empty`. Two sequences in a row are a group, the first preferred.
template <class T>
PackedBatch<T> DrawBatch(const std::vector<Lengths>& lengths, Sequence* numbers, size_t empty = 2) {
  PackedBatch<T> b;
  std::vector<double> advantages;
  for (size_t s = 0; s < lengths.size(); ++s) advantages.push_back(numbers->Next() / 2);
  for (size_t s = 0; s < lengths.size(); ++s) {
    for (int t = -lengths[s].prompt; t < lengths[s].completion; ++t) {
      const double logp = numbers->Next() / 4 - 2, old = logp + numbers->Next() / 8,
                   ref = logp + numbers->Next() / 8, entropy = std::abs(numbers->Next()) / 2,
                   draw = numbers->Next(), value = entropy / 2 - 0.5;
      const bool scored = t >= 0 && s != empty && t % 4 != 3;
      if (t >= 0) b.completion.push_back(b.mask.size());
      b.mask.push_back(scored ? 1 : 0);
      const std::map<std::string, double> at = {{"logp", logp},
                                                {"old_logp", old},
                                                {"ref_logp", ref},
                                                {"behaviour", old - draw / 4},
                                                {"entropy", entropy},
                                                {"weight", draw > 0 ? 1 : 0},
                                                {"value", value},
                                                {"old_value", value + ref - logp},
                                                {"returns", value + 2 * (old - logp)},
                                                {"advantage", advantages[s]}};
      for (const auto& [name, x] : at) {
        b.values[name].push_back(scored ? static_cast<T>(x) : std::numeric_limits<T>::quiet_NaN());
      }
    }
    b.cu.push_back(static_cast<int32_t>(b.mask.size()));
    b.group_id.push_back(static_cast<int32_t>(s / 2));
    b.target.push_back(static_cast<T>(s % 2 == 0 ? 1 : 0.25));
  }
  return b;
}

template <class T>
struct SequenceResult {
  double loss = 0;
  std::vector<T> d_logp, d_entropy, d_value;
  std::map<std::string, double> aux;  // means, of those that were counted
  Status status;
};

inline const retort_sequence_loss_v1* SequenceTable(const PluginInstance& loss) {
  return static_cast<const retort_sequence_loss_v1*>(
      loss.interface(RETORT_SEQUENCE_LOSS_INTERFACE));
}

// With the side inputs of that name, what the loss needs besides, and entropy and value.
template <class T>
SequenceResult<T> EvalSequences(const PluginInstance& loss, PackedBatch<T> b, const Window& window,
                                const std::set<std::string>& offered = {}) {
  const retort_loss_spec& spec = *SequenceTable(loss)->spec(loss.get());
  const auto n = static_cast<int64_t>(b.n_tokens()), n_aux = static_cast<int64_t>(spec.n_aux);
  SequenceResult<T> out;
  out.d_logp.assign(b.n_tokens(), T{7});
  out.d_entropy = out.d_value = out.d_logp;
  std::vector<double> sum = {-1}, counts(2 * spec.n_aux, -1);
  std::map<std::string, std::unique_ptr<Tensor>> inputs;
  for (auto& [name, x] : b.values) {
    inputs[name] = std::make_unique<Tensor>(x, std::vector<int64_t>{n});
  }
  const auto give = [&](const char* name, uint64_t bits) {
    const bool wanted = (spec.needs & bits) != 0 || offered.count(name) > 0;
    return wanted ? inputs.at(name)->get() : nullptr;
  };
  const auto n_sequences = static_cast<int64_t>(b.n_sequences());
  Tensor cu(b.cu, {n_sequences + 1}), mask(b.mask, {n}), group(b.group_id, {n_sequences}),
      target(b.target, {n_sequences}), sum_1(sum, {1}), d_logp(out.d_logp, {n}),
      d_entropy(out.d_entropy, {n}), d_value(out.d_value, {n}), aux(counts, {n_aux, 2});
  mask.get()->dtype = {RETORT_DTYPE_UINT, 8, 1};
  retort_sequence_loss_args args{};
  args.struct_size = sizeof(args);
  args.cu_seqlens = cu.get();
  args.mask = mask.get();
  args.logp = inputs.at("logp")->get();
  args.old_logp = give("old_logp", RETORT_SEQUENCE_OLD_LOGP);
  args.ref_logp = give("ref_logp", RETORT_SEQUENCE_REF_LOGP);
  args.behaviour_logp = give("behaviour", RETORT_SEQUENCE_BEHAVIOUR_LOGP);
  args.entropy = inputs.at("entropy")->get();
  args.policy_weight = give("weight", RETORT_SEQUENCE_POLICY_WEIGHT);
  args.value = inputs.at("value")->get();
  args.old_value = inputs.at("old_value")->get();
  args.returns = inputs.at("returns")->get();
  args.advantage = inputs.at("advantage")->get();
  args.group_id = group.get();
  args.target = target.get();
  args.n_sequences_global = window.sequences;
  args.n_scored_sequences_global = window.scored;
  args.n_groups_global = window.groups;
  args.n_tokens_global = window.tokens;
  args.max_completion_length = window.max_completion;
  args.accumulation_steps = window.steps;
  args.loss = sum_1.get();
  args.d_logp = d_logp.get();
  args.d_entropy = d_entropy.get();
  args.d_value = d_value.get();
  args.aux = aux.get();
  PluginCall call("loss");
  out.status = call.End(SequenceTable(loss)->eval(loss.get(), call.Begin(), &args), "eval");
  out.loss = sum[0];
  for (uint32_t k = 0; k < spec.n_aux; ++k) {
    if (counts[2 * k + 1] > 0) out.aux[spec.aux_names[k]] = counts[2 * k] / counts[2 * k + 1];
  }
  return out;
}

}  // namespace retort::host
