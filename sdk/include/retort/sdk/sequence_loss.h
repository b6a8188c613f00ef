// Sequence losses in C++: per-token log-probabilities in, a sum and its derivatives out. A class
// with
//   LossSpec Spec() const                           a pure function of the config
//   (RETORT_SEQUENCE_*) template <class T> void Eval(const Call&, const SequenceBatch<T>&)    T:
//   float, and double if
//                                                   the spec has RETORT_LOSS_F64
// then one line: RETORT_SEQUENCE_LOSS("my_loss", MyLoss, "one line for people", kSchema);
// Everything that Eval doesn't write is 0.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_SEQUENCE_LOSS_H_
#define RETORT_SDK_SEQUENCE_LOSS_H_

#include <algorithm>
#include <span>

#include "retort/sdk/loss.h"

namespace retort::sdk {

// One micro-batch of packed sequences; see retort_sequence_loss_args for meanings and units. A side
// input that the run doesn't offer is an empty span.
template <class T>
struct SequenceBatch {
  std::span<const int32_t> cu_seqlens;  // [S+1]
  std::span<const uint8_t> mask;        // [T]; values where it is 0 are not to be read
  std::span<const T> logp, old_logp, ref_logp, behaviour_logp, entropy, policy_weight, value,
      old_value, returns, advantage;               // [T]
  std::span<const int32_t> group_id;               // [S]
  std::span<const T> target;                       // [S]
  double* loss = nullptr;                          // starts at 0
  std::span<T> d_logp, d_entropy, d_value;         // [T], start at 0; empty: not wanted
  Matrix<double> aux;                              // [n_aux,2], starts at 0; false: not wanted
  const retort_sequence_loss_args* raw = nullptr;  // for the counts

  size_t n_tokens() const { return mask.size(); }
  size_t n_sequences() const { return cu_seqlens.size() - 1; }
  // Tokens of sequence s: [begin(s), end(s)).
  size_t begin(size_t s) const { return static_cast<size_t>(cu_seqlens[s]); }
  size_t end(size_t s) const { return static_cast<size_t>(cu_seqlens[s + 1]); }
  // Adds to number k of the spec's aux_names.
  void AddAux(size_t k, double sum, double count) const {
    if (!aux) return;
    double* row = aux[static_cast<int64_t>(k)];
    row[0] += sum;
    row[1] += count;
  }
};

namespace internal {

template <class T>
std::span<T> VectorOf(const retort_tensor* t, size_t n, const char* name) {
  if (t == nullptr) return {};
  const std::span<T> values = FlatOf<T>(*t, name);
  if (values.size() != n) {
    throw Failure(RETORT_INVALID_ARGUMENT, std::string(name) + " has " +
                                               std::to_string(values.size()) + " values, not " +
                                               std::to_string(n));
  }
  return values;
}

template <class T>
std::span<T> ZeroedVector(const retort_tensor* t, size_t n, const char* name) {
  const std::span<T> values = VectorOf<T>(t, n, name);
  std::fill(values.begin(), values.end(), T{0});
  return values;
}

inline void CheckSequences(std::span<const int32_t> cu, size_t n_tokens) {
  bool fits = !cu.empty() && cu.front() == 0 && static_cast<size_t>(cu.back()) == n_tokens;
  for (size_t s = 1; s < cu.size(); ++s) fits = fits && cu[s] >= cu[s - 1];
  if (!fits) {
    throw Failure(RETORT_INVALID_ARGUMENT, "cu_seqlens must rise from 0 to the number of tokens, " +
                                               std::to_string(n_tokens));
  }
}

// FAILED_PRECONDITION where an input that the spec needs is not there.
inline void RequireInputs(uint64_t needs, const retort_sequence_loss_args& a) {
  const struct {
    uint64_t bits;
    const char* name;
    const retort_tensor* tensor;
  } inputs[] = {{RETORT_SEQUENCE_OLD_LOGP, "old_logp", a.old_logp},
                {RETORT_SEQUENCE_REF_LOGP, "ref_logp", a.ref_logp},
                {RETORT_SEQUENCE_BEHAVIOUR_LOGP, "behaviour_logp", a.behaviour_logp},
                {RETORT_SEQUENCE_ENTROPY, "entropy", a.entropy},
                {RETORT_SEQUENCE_POLICY_WEIGHT, "policy_weight", a.policy_weight},
                {RETORT_SEQUENCE_VALUE | RETORT_SEQUENCE_VALUE_AFTER, "value", a.value},
                {RETORT_SEQUENCE_OLD_VALUE, "old_value", a.old_value},
                {RETORT_SEQUENCE_RETURNS, "returns", a.returns},
                {RETORT_SEQUENCE_ADVANTAGE, "advantage", a.advantage},
                {RETORT_SEQUENCE_GROUP_ID, "group_id", a.group_id},
                {RETORT_SEQUENCE_TARGET, "target", a.target}};
  for (const auto& input : inputs) {
    if ((needs & input.bits) == 0 || input.tensor != nullptr) continue;
    throw Failure(RETORT_FAILED_PRECONDITION,
                  std::string(input.name) + " is not there, but the loss needs it");
  }
}

template <class T>
SequenceBatch<T> SequenceBatchOf(const retort_sequence_loss_args& a) {
  SequenceBatch<T> b;
  b.raw = &a;
  b.mask = FlatOf<const uint8_t>(*a.mask, "mask");
  b.cu_seqlens = FlatOf<const int32_t>(*a.cu_seqlens, "cu_seqlens");
  const size_t n = b.mask.size();
  CheckSequences(b.cu_seqlens, n);
  b.logp = VectorOf<const T>(a.logp, n, "logp");
  b.old_logp = VectorOf<const T>(a.old_logp, n, "old_logp");
  b.ref_logp = VectorOf<const T>(a.ref_logp, n, "ref_logp");
  b.behaviour_logp = VectorOf<const T>(a.behaviour_logp, n, "behaviour_logp");
  b.entropy = VectorOf<const T>(a.entropy, n, "entropy");
  b.policy_weight = VectorOf<const T>(a.policy_weight, n, "policy_weight");
  b.value = VectorOf<const T>(a.value, n, "value");
  b.old_value = VectorOf<const T>(a.old_value, n, "old_value");
  b.returns = VectorOf<const T>(a.returns, n, "returns");
  b.advantage = VectorOf<const T>(a.advantage, n, "advantage");
  b.group_id = VectorOf<const int32_t>(a.group_id, b.n_sequences(), "group_id");
  b.target = VectorOf<const T>(a.target, b.n_sequences(), "target");
  b.loss = FlatOf<double>(*a.loss, "loss").data();
  *b.loss = 0;
  b.d_logp = ZeroedVector<T>(a.d_logp, n, "d_logp");
  b.d_entropy = ZeroedVector<T>(a.d_entropy, n, "d_entropy");
  b.d_value = ZeroedVector<T>(a.d_value, n, "d_value");
  if (a.aux != nullptr) {
    const std::span<double> flat = FlatOf<double>(*a.aux, "aux");
    std::fill(flat.begin(), flat.end(), 0.0);
    b.aux = MatrixOf<double>(*a.aux, "aux");
  }
  return b;
}

template <class T>
class SequenceLossInstance final : public Instance {
 public:
  explicit SequenceLossInstance(const Config& config) : loss_(config), spec_(loss_.Spec()) {
    raw_spec_ = {.struct_size = sizeof(raw_spec_),
                 .flags = spec_.flags,
                 .needs = spec_.needs,
                 .optional = spec_.optional,
                 .grain = spec_.grain,
                 .n_aux = static_cast<uint32_t>(spec_.aux_names.size()),
                 .aux_names = spec_.aux_names.data(),
                 .scratch_per_row = spec_.scratch_per_row,
                 .teacher_temperature = 0,
                 .teacher_top_k = 0,
                 ._pad = 0};
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_SEQUENCE_LOSS_INTERFACE ? &table_ : nullptr;
  }

 private:
  static SequenceLossInstance& Of(retort_instance* p) {
    return static_cast<SequenceLossInstance&>(Instance::Of(p));
  }
  static const retort_loss_spec* Spec(retort_instance* p) noexcept { return &Of(p).raw_spec_; }
  static retort_status Eval(retort_instance* p, const retort_call* raw,
                            const retort_sequence_loss_args* args) noexcept {
    return Guard(raw, [&] {
      SequenceLossInstance& self = Of(p);
      RequireInputs(self.spec_.needs, *args);
      const bool exact = (self.spec_.flags & RETORT_LOSS_F64) != 0;
      if (exact && IsType<double>(args->logp->dtype)) {
        self.loss_.template Eval<double>(Call(raw), SequenceBatchOf<double>(*args));
      } else {
        self.loss_.template Eval<float>(Call(raw), SequenceBatchOf<float>(*args));
      }
    });
  }

  T loss_;
  LossSpec spec_;
  retort_loss_spec raw_spec_{};
  retort_sequence_loss_v1 table_ = {sizeof(retort_sequence_loss_v1), 0, Spec, Eval};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_SEQUENCE_LOSS(ID, CLASS, SUMMARY, SCHEMA)                                          \
  RETORT_SDK_REGISTER(RETORT_KIND_LOSS, ID, ::retort::sdk::internal::SequenceLossInstance<CLASS>, \
                      SUMMARY, SCHEMA)

#endif  // RETORT_SDK_SEQUENCE_LOSS_H_
