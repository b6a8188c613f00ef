// Token losses: a sane spec, and finite losses and aux values of all rows that count. Gradients are
// checked once, by their norm, before the optimizer.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

// Element (r, c) of an f32 or f64 tensor of one or two dimensions on the CPU.
double At(const retort_tensor& t, int64_t r, int64_t c) {
  const int64_t at = r * t.strides[0] + (t.ndim > 1 ? c * t.strides[1] : 0);
  return t.dtype.bits == 64 ? static_cast<const double*>(t.data)[at]
                            : double{static_cast<const float*>(t.data)[at]};
}

std::string FirstNonFinite(const CheckedInstance& self, const retort_token_loss_args& args) {
  const retort_loss_spec& spec = *self.in.token_loss->spec(self.inner);
  const int64_t rows = args.loss->shape[0];
  for (int64_t r = 0; r < rows; ++r) {
    if (At(*args.weight, r, 0) == 0) continue;
    if (const double loss = At(*args.loss, r, 0); !std::isfinite(loss)) {
      return "row " + std::to_string(r) + ": the loss is " + std::to_string(loss);
    }
    for (uint32_t k = 0; args.aux != nullptr && k < spec.n_aux; ++k) {
      if (const double aux = At(*args.aux, r, k); !std::isfinite(aux)) {
        return "row " + std::to_string(r) + ": " + spec.aux_names[k] + " is " + std::to_string(aux);
      }
    }
  }
  return "";
}

const retort_loss_spec* Spec(retort_instance* handle) {
  const CheckedInstance& self = CheckedInstance::Of(handle);
  return self.in.token_loss->spec(self.inner);
}

retort_status Rows(retort_instance* handle, const retort_call* call,
                   const retort_token_loss_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  const retort_status status = RunGuarded(
      self, call, false, [&] { return self.in.token_loss->rows(self.inner, call, args); });
  if (status != RETORT_OK || call->device_type != RETORT_DEVICE_CPU) return status;
  const std::string broken = FirstNonFinite(self, *args);
  return broken.empty() ? RETORT_OK : ReportBroken(call, Code::kDataLoss, broken);
}

}  // namespace

void WrapLoss(CheckedInstance* self) {
  self->out.token_loss = *self->in.token_loss;
  self->out.token_loss.struct_size = sizeof(retort_token_loss_v1);
  self->out.token_loss.spec = Spec;
  self->out.token_loss.rows = Rows;
}

Status CheckLossSpec(const CheckedInstance& self) {
  const retort_loss_spec* spec = self.in.token_loss->spec(self.inner);
  if (spec == nullptr) return InvalidArgument("its loss spec is NULL");
  if (spec->struct_size < sizeof(retort_loss_spec)) {
    return InvalidArgument("its loss spec has struct_size " + std::to_string(spec->struct_size) +
                           ", expected at least " + std::to_string(sizeof(retort_loss_spec)));
  }
  if (spec->grain > RETORT_GRAIN_GROUP) {
    return Unimplemented("its loss spec has an unknown grain " + std::to_string(spec->grain));
  }
  for (uint32_t k = 0; k < spec->n_aux; ++k) {
    if (spec->aux_names == nullptr || spec->aux_names[k] == nullptr) {
      return InvalidArgument("its loss spec lacks the name of aux value " + std::to_string(k));
    }
  }
  return OkStatus();
}

}  // namespace retort::host
