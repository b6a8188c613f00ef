// A sequence loss: a clipped policy gradient with a penalty on the distance to the reference, an
// entropy bonus and a value loss. Per unmasked token, u = 1 / n_tokens_global:
//   u * (-w min(r A, clip(r, 0.8, 1.2) A) + 0.1 (exp(d) - d - 1)) - 0.01 u H + 0.5 u (v - R)^2
//   with r = exp(logp - old), d = ref - logp
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "probe.h"
#include "retort/abi/draft/loss.h"

namespace {

class Loss final : public retort::sdk::Instance {
 public:
  explicit Loss(const retort::sdk::Config& config) : bugs_(config) {
    spec_.struct_size = sizeof(spec_);
    spec_.flags = RETORT_LOSS_F64;
    spec_.needs = RETORT_SEQUENCE_ADVANTAGE;
    spec_.optional = RETORT_SEQUENCE_OLD_LOGP | RETORT_SEQUENCE_REF_LOGP | RETORT_SEQUENCE_ENTROPY |
                     RETORT_SEQUENCE_POLICY_WEIGHT | RETORT_SEQUENCE_VALUE |
                     RETORT_SEQUENCE_RETURNS;
    spec_.n_aux = 1;
    spec_.aux_names = names_;
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_SEQUENCE_LOSS_INTERFACE ? &table_ : nullptr;
  }

 private:
  static Loss& Of(retort_instance* p) { return static_cast<Loss&>(Instance::Of(p)); }
  static const retort_loss_spec* Spec(retort_instance* p) { return &Of(p).spec_; }

  static retort_status Eval(retort_instance* p, const retort_call* call,
                            const retort_sequence_loss_args* args) {
    Loss& self = Of(p);
    const bool f64 = probe::IsF64(*args->logp);
    if (!f64 && !probe::IsF32(*args->logp)) {
      if (self.bugs_.Has("dtype")) return RETORT_OK;
      return probe::Fail(call, RETORT_UNIMPLEMENTED, "f32 and f64 only");
    }
    if (args->advantage == nullptr) {
      return probe::Fail(
          call, self.bugs_.Has("side_inputs") ? RETORT_UNKNOWN : RETORT_FAILED_PRECONDITION,
          "no advantage");
    }
    if (self.bugs_.Has("growth") && args->struct_size > sizeof(*args)) {
      return probe::Fail(call, RETORT_INVALID_ARGUMENT, "args of another size");
    }
    if (self.bugs_.Has("spec")) self.spec_.scratch_per_row += 8;
    return f64 ? self.Run<double>(*call, *args) : self.Run<float>(*call, *args);
  }

  struct Terms {
    double loss = 0, d_logp = 0, d_entropy = 0, d_value = 0, ratio = 1;
  };

  // Of one token, before the normaliser.
  template <class T>
  Terms Token(const retort_sequence_loss_args& args, int64_t t) const {
    const auto at = [t](const retort_tensor* x, double fallback) {
      return x == nullptr ? fallback : double{probe::Data<T>(x)[t]};
    };
    Terms out;
    const double logp = at(args.logp, 0), advantage = at(args.advantage, 0);
    out.ratio = std::exp(logp - at(args.old_logp, logp));
    const double w = at(args.policy_weight, 1);
    const double free = out.ratio * advantage,
                 clipped = std::clamp(out.ratio, 0.8, 1.2) * advantage;
    out.loss = -w * std::min(free, clipped);
    out.d_logp = free <= clipped ? -w * free : 0;
    if (bugs_.Has("on_policy") && args.old_logp == nullptr) out.d_logp = 0;
    const double d = at(args.ref_logp, logp) - logp;
    out.loss += 0.1 * (std::exp(d) - d - 1);
    out.d_logp += 0.1 * (1 - std::exp(d));
    if (bugs_.Has("finite")) out.loss += T(1e-20) * std::exp(T(-3) * T(logp));
    if (args.entropy != nullptr) {
      out.loss -= 0.01 * at(args.entropy, 0);
      out.d_entropy = -0.01;
    }
    if (args.value != nullptr) {
      const double miss = at(args.value, 0) - at(args.returns, 0);
      out.loss += 0.5 * miss * miss;
      out.d_value = miss;
    }
    return out;
  }

  template <class T>
  retort_status Run(const retort_call& call, const retort_sequence_loss_args& args) const {
    const int64_t n = args.mask->shape[0];
    const auto* mask = probe::Data<uint8_t>(args.mask);
    double loss = 0, ratios = 0, count = 0;
    for (int64_t t = 0; t < n; ++t) count += mask[t] != 0 ? 1 : 0;
    double unit = 1 / args.n_tokens_global;
    if (bugs_.Has("parts")) unit = 1 / std::max(1.0, count);
    if (bugs_.Has("precision") && sizeof(T) == 4) unit *= 1.01;
    const auto set = [](const retort_tensor* to, int64_t t, double x) {
      if (to != nullptr) probe::Data<T>(to)[t] = static_cast<T>(x);
    };
    for (int64_t t = 0; t < n; ++t) {
      const Terms terms = mask[t] != 0 ? Token<T>(args, t) : Terms{};
      loss += mask[t] != 0 ? unit * terms.loss : 0;
      ratios += mask[t] != 0 ? terms.ratio : 0;
      double d = unit * terms.d_logp;
      if (bugs_.Has("derivative")) d *= 1.01;
      if (bugs_.Has("masked") && mask[t] == 0) d = 1e-9;
      set(args.d_logp, t, d);
      set(args.d_entropy, t, unit * terms.d_entropy);
      set(args.d_value, t, unit * terms.d_value);
    }
    if (bugs_.Has("memory") && n > 20) set(args.d_logp, n, 0);
    if (bugs_.Has("empty") && n == 0) loss = 1;
    if (bugs_.Has("outputs") && args.d_entropy == nullptr) loss += 0.01;
    if (bugs_.Has("threads") && call.n_threads > 1) loss += 0.01;
    if (bugs_.Has("repeat")) loss *= 1 + 1e-9 * bugs_.number();
    probe::Data<double>(args.loss)[0] = loss;
    if (args.aux != nullptr) {
      probe::Data<double>(args.aux)[0] = ratios;
      probe::Data<double>(args.aux)[1] = count;
    }
    return RETORT_OK;
  }

  probe::Bugs bugs_;
  const char* names_[1] = {"ratio"};
  retort_loss_spec spec_{};
  retort_sequence_loss_v1 table_ = {sizeof(retort_sequence_loss_v1), 0, Spec, Eval};
};

RETORT_SDK_REGISTER(RETORT_KIND_LOSS, "sequence_probe", Loss, "a sequence loss with a bug",
                    probe::kSchema);

}  // namespace
