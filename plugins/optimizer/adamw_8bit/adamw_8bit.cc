// AdamW with moments of 8 bits: codes of a dynamic map times the largest magnitude of each block of
// 256 elements (Dettmers et al., arXiv 2110.02861), as bitsandbytes' AdamW8bit. The update is
// AdamW's; the moments are rounded to the nearest code after it. Small tensors keep f32 moments.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "retort/kernels/optimizer.h"
#include "retort/sdk/optimizer.h"

namespace {

using retort::sdk::Call;
using retort::sdk::OptimizerSpec;
using retort::sdk::StateSpec;
using retort::sdk::Update;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "betas": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1},
              "default": [0.9, 0.999], "description": "decay of the two moments"},
    "eps": {"type": "number", "minimum": 0, "default": 1e-8,
            "description": "added to the root of the second moment"},
    "min_8bit_size": {"type": "integer", "minimum": 0, "default": 4096,
                      "description": "params with fewer elements keep moments of 32 bits"},
    "weight_decay": {"type": "number", "minimum": 0, "default": 0,
                     "description": "decoupled; the host hands it back for each group of params"}
  }
})";

class AdamW8Bit {
 public:
  explicit AdamW8Bit(const retort::sdk::Config& config)
      : betas_(retort::sdk::BetasOf(config)),
        eps_(config.Double("eps")),
        min_8bit_size_(config.Int("min_8bit_size")),
        books_(std::make_unique<retort_code_books>()) {
    retort_make_code_book(1, &books_->m);
    retort_make_code_book(0, &books_->v);
  }

  OptimizerSpec Spec(const retort_param_info& info) const {
    if (!IsCoded(info)) return {.states = {"exp_avg", "exp_avg_sq"}};
    return {.states = {StateSpec("exp_avg", RETORT_STATE_U8, books_->m.zero),
                       StateSpec("exp_avg_sq", RETORT_STATE_U8, books_->v.zero),
                       StateSpec::PerBlock("exp_avg_absmax", RETORT_CODE_BLOCK),
                       StateSpec::PerBlock("exp_avg_sq_absmax", RETORT_CODE_BLOCK)}};
  }

  void StepAll(const Call& call, std::span<const Update> updates) {
    params_.clear();
    coded_.clear();
    plain_.clear();
    params_.reserve(updates.size());  // the tensors point into it
    for (const Update& update : updates) {
      update.ExpectSize(update.grad().size(), update.param().size());
      params_.push_back(ParamsOf(update));
      IsCoded(update.info()) ? AddCoded(update) : AddPlain(update);
    }
    retort_adamw8_list(books_.get(), coded_.data(), static_cast<int64_t>(coded_.size()),
                       call.n_threads());
    retort_adamw_list_f32(plain_.data(), static_cast<int64_t>(plain_.size()), call.n_threads());
  }

 private:
  bool IsCoded(const retort_param_info& info) const {
    int64_t elements = 1;
    for (uint32_t i = 0; i < info.ndim; ++i) elements *= info.shape[i];
    return elements >= min_8bit_size_;
  }

  retort_adamw_params ParamsOf(const Update& update) const {
    const auto step = static_cast<double>(update.step());
    return {.learning_rate = update.learning_rate(),
            .beta1 = betas_[0],
            .beta2 = betas_[1],
            .eps = eps_,
            .weight_decay = update.weight_decay(),
            .bias_correction1 = 1 - std::pow(betas_[0], step),
            .bias_correction2 = 1 - std::pow(betas_[1], step),
            .grad_scale = update.grad_scale()};
  }

  void AddCoded(const Update& update) {
    const std::span<float> param = update.param();
    const std::span<uint8_t> m = update.state<uint8_t>(0), v = update.state<uint8_t>(1);
    const std::span<float> m_max = update.state(2), v_max = update.state(3);
    const size_t blocks = (param.size() + RETORT_CODE_BLOCK - 1) / RETORT_CODE_BLOCK;
    for (size_t size : {m.size(), v.size()}) update.ExpectSize(size, param.size());
    for (size_t size : {m_max.size(), v_max.size()}) update.ExpectSize(size, blocks);
    coded_.push_back({.p = param.data(),
                      .grad = update.grad().data(),
                      .m = m.data(),
                      .v = v.data(),
                      .m_max = m_max.data(),
                      .v_max = v_max.data(),
                      .n = static_cast<int64_t>(param.size()),
                      .params = &params_.back()});
  }

  void AddPlain(const Update& update) {
    const std::span<float> param = update.param(), m = update.state(0), v = update.state(1);
    for (size_t size : {m.size(), v.size()}) update.ExpectSize(size, param.size());
    plain_.push_back({.p = param.data(),
                      .grad = update.grad().data(),
                      .m = m.data(),
                      .v = v.data(),
                      .n = static_cast<int64_t>(param.size()),
                      .params = &params_.back()});
  }

  std::array<double, 2> betas_;
  double eps_;
  int64_t min_8bit_size_;
  std::unique_ptr<retort_code_books> books_;
  std::vector<retort_adamw_params> params_;  // of the step at hand
  std::vector<retort_adamw8_tensor> coded_;
  std::vector<retort_adamw_tensor_f32> plain_;
};

RETORT_OPTIMIZER("adamw_8bit", AdamW8Bit, "AdamW with moments of 8 bits, block by block", kSchema);

}  // namespace
