// A token loss: cross-entropy of the label, and of a teacher where there is one.
//   loss = (lse - z[label]) + sum_j p_j (lse - z[j]), p the teacher's probabilities
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "probe.h"
#include "retort/abi/draft/loss.h"

namespace {

class Loss final : public retort::sdk::Instance {
 public:
  explicit Loss(const retort::sdk::Config& config) : bugs_(config) {
    spec_.struct_size = sizeof(spec_);
    spec_.flags = RETORT_LOSS_F64;
    spec_.optional = RETORT_TOKEN_TEACHER_LOGITS | RETORT_TOKEN_TEACHER_TOP_K;
    spec_.n_aux = 1;
    spec_.aux_names = names_;
    if (bugs_.Has("side_inputs")) spec_.needs = RETORT_TOKEN_POSITION;
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_TOKEN_LOSS_INTERFACE ? &table_ : nullptr;
  }

 private:
  static Loss& Of(retort_instance* p) { return static_cast<Loss&>(Instance::Of(p)); }
  static const retort_loss_spec* Spec(retort_instance* p) { return &Of(p).spec_; }

  static retort_status Rows(retort_instance* p, const retort_call* call,
                            const retort_token_loss_args* args) {
    Loss& self = Of(p);
    const bool f64 = probe::IsF64(*args->logits);
    if (!f64 && !probe::IsF32(*args->logits)) {
      if (self.bugs_.Has("dtype")) return RETORT_OK;
      return probe::Fail(call, RETORT_UNIMPLEMENTED, "f32 and f64 only");
    }
    if (self.bugs_.Has("growth") && args->struct_size > sizeof(*args)) {
      return probe::Fail(call, RETORT_INVALID_ARGUMENT, "args of another size");
    }
    if (self.bugs_.Has("spec")) self.spec_.scratch_per_row += 8;
    return f64 ? self.Run<double>(call, *args) : self.Run<float>(call, *args);
  }

  template <class T>
  retort_status Run(const retort_call* call, const retort_token_loss_args& args) {
    const int64_t rows = args.logits->shape[0], vocab = args.logits->shape[1];
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t label = probe::Data<int64_t>(args.labels)[r];
      const float weight = probe::Data<float>(args.weight)[r];
      if (weight != 0 && (label < 0 || label >= vocab) && !bugs_.Has("labels")) {
        return probe::Fail(call, RETORT_INVALID_ARGUMENT, "label out of range");
      }
    }
    for (int64_t r = 0; r < rows; ++r) Row<T>(*call, args, r);
    return RETORT_OK;
  }

  // The probability that the teacher gives to each id.
  std::vector<double> Teacher(const retort_token_loss_args& args, int64_t r, int64_t vocab) const {
    std::vector<double> p(static_cast<size_t>(vocab), 0);
    if (args.teacher_logits != nullptr) {
      const float* z =
          probe::Data<float>(args.teacher_logits) + r * args.teacher_logits->strides[0];
      const double top = *std::max_element(z, z + vocab);
      double sum = 0;
      for (int64_t v = 0; v < vocab; ++v) sum += p[static_cast<size_t>(v)] = std::exp(z[v] - top);
      for (double& x : p) x /= sum;
    } else if (args.teacher_ids != nullptr) {
      const int64_t k = args.teacher_ids->shape[1];
      for (int64_t j = 0; j < k; ++j) {
        const int32_t id = probe::Data<int32_t>(args.teacher_ids)[r * k + j];
        if (id < 0) continue;
        p[static_cast<size_t>(id)] =
            std::exp(double{probe::Data<float>(args.teacher_logp)[r * k + j]});
      }
    }
    return p;
  }

  template <class T>
  void Row(const retort_call& call, const retort_token_loss_args& args, int64_t r) const {
    const int64_t vocab = args.logits->shape[1], stride = args.logits->strides[0];
    T* z = probe::Data<T>(args.logits) + r * stride;
    const double weight = probe::Data<float>(args.weight)[r];
    const auto label = std::clamp<int64_t>(probe::Data<int64_t>(args.labels)[r], 0, vocab - 1);
    const double top = bugs_.Has("finite") ? 0 : *std::max_element(z, z + vocab);
    double sum = 0;
    for (int64_t v = 0; v < vocab; ++v) sum += std::exp(double{z[v]} - top);
    const double lse = top + std::log(sum);
    const std::vector<double> teacher = Teacher(args, r, vocab);
    double loss = lse - z[label], mass = 1;
    for (int64_t v = 0; v < vocab; ++v) {
      const double p = teacher[static_cast<size_t>(v)];
      loss += p == 0 ? 0 : p * (lse - z[v]);
      mass += p;
    }
    double factor = weight;
    if (bugs_.Has("precision") && sizeof(T) == 4) {
      loss *= 1.01;
      factor *= 1.01;
    }
    if (bugs_.Has("gradient")) factor *= 1.01;
    if (bugs_.Has("weight")) loss += 0.01 * weight;
    if (bugs_.Has("chunks")) loss += 0.01 * static_cast<double>(r);
    if (bugs_.Has("outputs") && args.aux == nullptr) loss += 0.01;
    if (bugs_.Has("threads") && call.n_threads > 1) loss += 0.01;
    if (bugs_.Has("repeat")) loss += 0.01 * bugs_.number();
    probe::Data<T>(args.loss)[r] = static_cast<T>(loss);
    if (args.aux != nullptr) {
      probe::Data<T>(args.aux)[r * args.aux->strides[0]] = static_cast<T>(std::exp(z[label] - lse));
    }
    if ((args.flags & RETORT_TOKEN_WANT_GRAD) == 0) return;
    for (int64_t v = 0; v < vocab; ++v) {
      const double q = std::exp(double{z[v]} - lse);
      const double target = (v == label ? 1 : 0) + teacher[static_cast<size_t>(v)];
      z[v] = weight == 0 ? T{0} : static_cast<T>(factor * (mass * q - target));
    }
    if (bugs_.Has("zero_weight") && weight == 0) z[vocab - 1] = static_cast<T>(1e-30);
    if (bugs_.Has("memory") && stride > vocab) z[vocab] = T{0};
  }

  probe::Bugs bugs_;
  const char* names_[1] = {"probability"};
  retort_loss_spec spec_{};
  retort_token_loss_v1 table_ = {sizeof(retort_token_loss_v1), 0, Spec, Rows};
};

RETORT_SDK_REGISTER(RETORT_KIND_LOSS, "token_probe", Loss, "a token loss with a bug",
                    probe::kSchema);

}  // namespace
