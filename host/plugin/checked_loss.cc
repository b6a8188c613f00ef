// Losses, what both kinds share: a sane spec. Token losses: finite losses and aux values of all
// rows that count. Gradients are checked once, by their norm, before the optimizer.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked_loss.h"

#include <cmath>

#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

constexpr uint32_t kMaxAux = 64;

// Element (r, c) of an f32 or f64 tensor of one or two dimensions on the CPU.
double At(const retort_tensor& t, int64_t r, int64_t c) {
  const int64_t at = r * t.strides[0] + (t.ndim > 1 ? c * t.strides[1] : 0);
  return t.dtype.bits == 64 ? static_cast<const double*>(t.data)[at]
                            : double{static_cast<const float*>(t.data)[at]};
}

Status CheckRows(const retort_loss_spec& spec, const retort_token_loss_args& args) {
  const int64_t rows = args.loss->shape[0];
  for (int64_t r = 0; r < rows; ++r) {
    if (At(*args.weight, r, 0) == 0) continue;
    if (const double loss = At(*args.loss, r, 0); !std::isfinite(loss)) {
      return DataLoss("row " + std::to_string(r) + ": the loss is " + std::to_string(loss));
    }
    for (uint32_t k = 0; args.aux != nullptr && k < spec.n_aux; ++k) {
      if (const double aux = At(*args.aux, r, k); !std::isfinite(aux)) {
        return DataLoss("row " + std::to_string(r) + ": " + spec.aux_names[k] + " is " +
                        std::to_string(aux));
      }
    }
  }
  return OkStatus();
}

const retort_loss_spec* Spec(retort_instance* handle) {
  return CheckedInstance::Of(handle).token_spec;
}

retort_status Rows(retort_instance* handle, const retort_call* call,
                   const retort_token_loss_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  const retort_status status = RunGuarded(self, &relay, false, [&] {
    return self.in.token_loss->rows(self.inner, relay.call(), args);
  });
  if (status != RETORT_OK || call->device_type != RETORT_DEVICE_CPU) return status;
  return Verify(relay, [&] { return CheckRows(*self.token_spec, *args); });
}

Status CheckAuxNames(const retort_loss_spec& spec) {
  if (spec.n_aux > kMaxAux) {
    return InvalidArgument("its loss spec has " + std::to_string(spec.n_aux) +
                           " aux values, at most " + std::to_string(kMaxAux) + " are allowed");
  }
  for (uint32_t k = 0; k < spec.n_aux; ++k) {
    if (spec.aux_names == nullptr || spec.aux_names[k] == nullptr || *spec.aux_names[k] == '\0') {
      return InvalidArgument("its loss spec lacks the name of aux value " + std::to_string(k));
    }
    for (uint32_t i = 0; i < k; ++i) {
      if (std::string_view(spec.aux_names[i]) == spec.aux_names[k]) {
        return InvalidArgument(std::string("its loss spec has two aux values named ") +
                               spec.aux_names[k]);
      }
    }
  }
  return OkStatus();
}

}  // namespace

Status CheckLossSpec(const retort_loss_spec* spec, uint64_t known_inputs) {
  if (spec == nullptr) return InvalidArgument("its loss spec is NULL");
  if (spec->struct_size < sizeof(retort_loss_spec)) {
    return InvalidArgument("its loss spec has struct_size " + std::to_string(spec->struct_size) +
                           ", expected at least " + std::to_string(sizeof(retort_loss_spec)));
  }
  if (spec->grain > RETORT_GRAIN_GROUP) {
    return Unimplemented("its loss spec has an unknown grain " + std::to_string(spec->grain));
  }
  if ((spec->flags & 0xFFFFU & ~(RETORT_LOSS_BF16 | RETORT_LOSS_F64)) != 0) {
    return Unimplemented("its loss spec has unknown flag bits: " + std::to_string(spec->flags));
  }
  if (((spec->needs | spec->optional) & ~known_inputs) != 0) {
    return Unimplemented("its loss spec asks for side inputs that this retort doesn't know (bits " +
                         std::to_string((spec->needs | spec->optional) & ~known_inputs) + ")");
  }
  return CheckAuxNames(*spec);
}

Status WrapTokenLoss(CheckedInstance* self) {
  constexpr uint64_t kInputs = RETORT_TOKEN_TEACHER_LOGITS | RETORT_TOKEN_TEACHER_TOP_K |
                               RETORT_TOKEN_SEQUENCE_ID | RETORT_TOKEN_POSITION;
  self->out.token_loss = *self->in.token_loss;
  self->out.token_loss.struct_size = sizeof(retort_token_loss_v1);
  self->out.token_loss.spec = Spec;
  self->out.token_loss.rows = Rows;
  return Guard([&]() -> Status {
    self->token_spec = self->in.token_loss->spec(self->inner);
    return CheckLossSpec(self->token_spec, kInputs);
  });
}

}  // namespace retort::host
