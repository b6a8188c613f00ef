// An optimizer with a state per element, one per block, and a scalar:
//   m = 0.9 m + g;  peak = max |m| of the block;  p -= lr / (1 + 0.01 n) * (m / (1 + peak) + wd p)
//   n: steps so far, the scalar
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "probe.h"
#include "retort/abi/draft/optimizer.h"
#include "retort/sdk/stream.h"

namespace {

constexpr uint64_t kBlock = 48;
constexpr char kMagic[4] = {'p', 'r', 'o', 'b'};

class Optimizer final : public retort::sdk::Instance {
 public:
  explicit Optimizer(const retort::sdk::Config& config) : bugs_(config) {
    if (bugs_.Has("tensors")) table_.save = nullptr;
    if (bugs_.Has("tensors")) table_.load = nullptr;
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_OPTIMIZER_INTERFACE ? &table_ : nullptr;
  }

 private:
  static Optimizer& Of(retort_instance* p) { return static_cast<Optimizer&>(Instance::Of(p)); }

  static retort_status Spec(retort_instance* p, const retort_call*, const retort_param_info*,
                            const retort_optimizer_spec** out) {
    *out = &Of(p).spec_;
    return RETORT_OK;
  }

  static retort_status Step(retort_instance* p, const retort_call* call,
                            const retort_optimizer_args* args) {
    Optimizer& self = Of(p);
    if (self.bugs_.Has("growth") && args->struct_size > sizeof(*args)) {
      return probe::Fail(call, RETORT_INVALID_ARGUMENT, "args of another size");
    }
    if (args->n == 0 && self.bugs_.Has("empty")) {
      return probe::Fail(call, RETORT_INVALID_ARGUMENT, "nothing to do");
    }
    const char* at = reinterpret_cast<const char*>(args->tensors);
    for (uint64_t i = 0; i < args->n; ++i, at += args->tensor_stride) {
      const auto& t = *reinterpret_cast<const retort_optimizer_tensor*>(at);
      if (!probe::IsF32(*t.param)) {
        if (self.bugs_.Has("dtype")) continue;
        return probe::Fail(call, RETORT_UNIMPLEMENTED, "f32 only");
      }
      self.Update(*call, *args, t, i);
    }
    if (self.bugs_.Has("spec")) self.states_[0].init_value = static_cast<double>(self.n_steps_);
    ++self.n_steps_;
    ++self.hidden_;
    return RETORT_OK;
  }

  void Update(const retort_call& call, const retort_optimizer_args& args,
              const retort_optimizer_tensor& t, uint64_t index) const {
    const int64_t n = t.param->shape[0];
    auto *param = probe::Data<float>(t.param), *m = probe::Data<float>(t.states[0]),
         *peak = probe::Data<float>(t.states[1]);
    const auto* grad = probe::Data<float>(t.grad);
    const uint32_t group = bugs_.Has("groups") ? 0 : t.info->group;
    const bool scaled = args.grad_scale != nullptr && !bugs_.Has("grad_scale");
    const float scale = scaled ? probe::Data<float>(args.grad_scale)[0] : 1;
    const double steps = table_.save == nullptr ? 0 : static_cast<double>(n_steps_);
    const auto rate = static_cast<float>(args.learning_rate[group] / (1 + 0.01 * steps));
    const auto decay = static_cast<float>(args.weight_decay[group]);
    const bool frozen = bugs_.Has("update") && t.info->ndim == 1;
    float nudge = 0;
    if (bugs_.Has("threads") && call.n_threads > 1) nudge = 1e-3F;
    if (bugs_.Has("continues")) nudge = 1e-3F * static_cast<float>(hidden_);
    if (bugs_.Has("tensors")) nudge = 1e-3F * static_cast<float>(index);
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t end = std::min<int64_t>(n, begin + static_cast<int64_t>(kBlock));
      float top = 0;
      for (int64_t i = begin; i < end; ++i) {
        m[i] = 0.9F * m[i] + scale * grad[i];
        top = std::max(top, std::fabs(m[i]));
      }
      peak[begin / static_cast<int64_t>(kBlock)] = top;
      for (int64_t i = begin; i < end && !frozen; ++i) {
        param[i] -= rate * (m[i] / (1 + top) + decay * param[i]) + nudge;
        if (bugs_.Has("shards")) param[i] -= 1e-5F * static_cast<float>(i);
      }
    }
    if (bugs_.Has("memory") && n > 64) param[n] = 0;
    for (int64_t i = 0; i < n && t.low_precision != nullptr; ++i)
      Round(param[i], *t.low_precision, i);
  }

  void Round(float x, const retort_tensor& to, int64_t i) const {
    uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof bits);
    if (!bugs_.Has("low_precision")) bits += 0x7FFF + (bits >> 16 & 1);
    static_cast<uint16_t*>(to.data)[i] = static_cast<uint16_t>(bits >> 16);
  }

  static retort_status Save(retort_instance* p, const retort_call* call, const retort_sink* sink) {
    return retort::sdk::Guard(call, [&] {
      std::string bytes(kMagic, sizeof kMagic);
      bytes.append(reinterpret_cast<const char*>(&Of(p).n_steps_), sizeof(int64_t));
      retort::sdk::WriteAll(*sink, bytes);
    });
  }
  static retort_status Load(retort_instance* p, const retort_call* call,
                            const retort_reader* reader) {
    Optimizer& self = Of(p);
    return retort::sdk::Guard(call, [&] {
      const std::string bytes = retort::sdk::ReadAll(*reader);
      const bool good = bytes.size() == sizeof kMagic + sizeof(int64_t) &&
                        bytes.compare(0, sizeof kMagic, kMagic, sizeof kMagic) == 0;
      if (!good && self.bugs_.Has("load")) return;
      if (!good) throw retort::sdk::Failure(RETORT_DATA_LOSS, "not what save wrote");
      std::memcpy(&self.n_steps_, bytes.data() + sizeof kMagic, sizeof(int64_t));
    });
  }

  probe::Bugs bugs_;
  int64_t n_steps_ = 0, hidden_ = 0;
  retort_state_spec states_[2] = {{"momentum", RETORT_STATE_F32, RETORT_STATE_SHAPE_AS_PARAM,
                                   RETORT_STATE_INIT_CONSTANT, 0, 0, 0, nullptr},
                                  {"peak", RETORT_STATE_F32, RETORT_STATE_SHAPE_PER_BLOCK,
                                   RETORT_STATE_INIT_CONSTANT, 0, 0, kBlock, nullptr}};
  retort_optimizer_spec spec_ = {
      sizeof(retort_optimizer_spec), 0, RETORT_GRAIN_ELEMENTWISE, 2, states_,
      sizeof(retort_state_spec)};
  retort_optimizer_v1 table_ = {sizeof(retort_optimizer_v1), 0, Spec, Step, Save, Load};
};

RETORT_SDK_REGISTER(RETORT_KIND_OPTIMIZER, "optimizer_probe", Optimizer, "an optimizer with a bug",
                    probe::kSchema);

}  // namespace
