// Token losses in C++: a class with
//   LossSpec Spec() const                                    a pure function of the config
//   template <class T> void Rows(const Call&, const TokenRows<T>&)    T: float, and double if
//                                                            the spec has RETORT_LOSS_F64
// then one line: RETORT_TOKEN_LOSS("my_loss", MyLoss, "one line for people", kSchema);
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_LOSS_H_
#define RETORT_SDK_LOSS_H_

#include <vector>

#include "retort/abi/draft/loss.h"
#include "retort/sdk/plugin.h"
#include "retort/sdk/tensor.h"

namespace retort::sdk {

struct LossSpec {
  uint32_t flags = 0;                // RETORT_LOSS_*
  uint64_t needs = 0, optional = 0;  // RETORT_TOKEN_*
  uint32_t grain = RETORT_GRAIN_ROW;
  std::vector<const char*> aux_names = {};  // string literals
  uint64_t scratch_per_row = 0;
  double teacher_temperature = 1;
  uint32_t teacher_top_k = 0;
};

// One chunk. See retort_token_loss_args for who writes what.
template <class T>
struct TokenRows {
  Matrix<T> logits;  // [R,V]; overwritten by the weighted gradient if want_grad
  Matrix<const int64_t> labels;
  std::span<const T> weight;  // [R], contiguous
  Matrix<T> loss;             // [R]
  Matrix<T> aux;              // [R,n_aux]; false: not wanted
  bool want_grad = false;
  const retort_token_loss_args* raw = nullptr;  // for side inputs

  int64_t n_rows() const { return logits.rows; }
  int64_t vocab() const { return logits.cols; }
};

namespace internal {

// The host's weights are f32 also beside f64 logits.
template <class T>
std::span<const T> WeightsOf(const Call& call, const retort_tensor& t) {
  const auto copy = [&](auto rows) -> std::span<const T> {
    const std::span<T> out = call.Scratch<T>(static_cast<size_t>(rows.rows));
    for (int64_t r = 0; r < rows.rows; ++r) out[static_cast<size_t>(r)] = static_cast<T>(*rows[r]);
    return out;
  };
  if (IsType<double>(t.dtype)) return copy(MatrixOf<const double>(t, "weight"));
  return copy(MatrixOf<const float>(t, "weight"));
}

template <class T>
TokenRows<T> TokenRowsOf(const Call& call, const retort_token_loss_args& args) {
  TokenRows<T> rows{.logits = MatrixOf<T>(*args.logits, "logits"),
                    .labels = MatrixOf<const int64_t>(*args.labels, "labels"),
                    .weight = WeightsOf<T>(call, *args.weight),
                    .loss = MatrixOf<T>(*args.loss, "loss"),
                    .aux = {},
                    .want_grad = (args.flags & RETORT_TOKEN_WANT_GRAD) != 0,
                    .raw = &args};
  if (args.aux != nullptr) rows.aux = MatrixOf<T>(*args.aux, "aux");
  for (int64_t r = 0; r < rows.n_rows(); ++r) {
    const int64_t label = *rows.labels[r];
    if (rows.weight[static_cast<size_t>(r)] != 0 && (label < 0 || label >= rows.vocab())) {
      throw Failure(RETORT_INVALID_ARGUMENT, "label " + std::to_string(label) + " of row " +
                                                 std::to_string(r) + " is outside 0.." +
                                                 std::to_string(rows.vocab() - 1));
    }
  }
  return rows;
}

template <class T>
class TokenLossInstance final : public Instance {
 public:
  explicit TokenLossInstance(const Config& config) : loss_(config), spec_(loss_.Spec()) {
    raw_spec_ = {.struct_size = sizeof(raw_spec_),
                 .flags = spec_.flags,
                 .needs = spec_.needs,
                 .optional = spec_.optional,
                 .grain = spec_.grain,
                 .n_aux = static_cast<uint32_t>(spec_.aux_names.size()),
                 .aux_names = spec_.aux_names.data(),
                 .scratch_per_row = spec_.scratch_per_row + sizeof(double),
                 .teacher_temperature = spec_.teacher_temperature,
                 .teacher_top_k = spec_.teacher_top_k,
                 ._pad = 0};
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_TOKEN_LOSS_INTERFACE ? &table_ : nullptr;
  }

 private:
  static TokenLossInstance& Of(retort_instance* p) {
    return static_cast<TokenLossInstance&>(Instance::Of(p));
  }
  static const retort_loss_spec* Spec(retort_instance* p) noexcept { return &Of(p).raw_spec_; }
  static retort_status RunRows(retort_instance* p, const retort_call* raw,
                               const retort_token_loss_args* args) noexcept {
    return Guard(raw, [&] {
      const Call call(raw);
      TokenLossInstance& self = Of(p);
      if ((self.spec_.flags & RETORT_LOSS_F64) != 0 && IsType<double>(args->logits->dtype)) {
        self.loss_.template Rows<double>(call, TokenRowsOf<double>(call, *args));
      } else {
        self.loss_.template Rows<float>(call, TokenRowsOf<float>(call, *args));
      }
    });
  }

  T loss_;
  LossSpec spec_;
  retort_loss_spec raw_spec_{};
  retort_token_loss_v1 table_ = {sizeof(retort_token_loss_v1), 0, Spec, RunRows};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_TOKEN_LOSS(ID, CLASS, SUMMARY, SCHEMA)                                          \
  RETORT_SDK_REGISTER(RETORT_KIND_LOSS, ID, ::retort::sdk::internal::TokenLossInstance<CLASS>, \
                      SUMMARY, SCHEMA)

#endif  // RETORT_SDK_LOSS_H_
