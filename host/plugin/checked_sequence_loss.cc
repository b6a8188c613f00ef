// Sequence losses: the side inputs that it needs are there, everything asked for was written, all
// of it is finite, and masked tokens have no part in it. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "host/plugin/checked_call.h"
#include "host/plugin/checked_loss.h"

namespace retort::host {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A contiguous f32 or f64 tensor on the CPU.
double At(const retort_tensor& t, int64_t i) {
  return t.dtype.bits == 64 ? static_cast<const double*>(t.data)[i]
                            : double{static_cast<const float*>(t.data)[i]};
}
int64_t Elements(const retort_tensor& t) {
  int64_t n = 1;
  for (int32_t i = 0; i < t.ndim; ++i) n *= t.shape[i];
  return n;
}
void Fill(const retort_tensor* t, double value) {
  for (int64_t i = 0; t != nullptr && i < Elements(*t); ++i) {
    if (t->dtype.bits == 64) {
      static_cast<double*>(t->data)[i] = value;
    } else {
      static_cast<float*>(t->data)[i] = static_cast<float>(value);
    }
  }
}

struct SideInput {
  uint64_t bit;
  const char* name;
  const retort_tensor* tensor;
};

// NULL, or the name of an input that is needed and missing.
const char* Missing(uint64_t needs, const retort_sequence_loss_args& a) {
  for (const SideInput& input : {
           SideInput{RETORT_SEQUENCE_OLD_LOGP, "old_logp", a.old_logp},
           SideInput{RETORT_SEQUENCE_REF_LOGP, "ref_logp", a.ref_logp},
           SideInput{RETORT_SEQUENCE_BEHAVIOUR_LOGP, "behaviour_logp", a.behaviour_logp},
           SideInput{RETORT_SEQUENCE_ENTROPY, "entropy", a.entropy},
           SideInput{RETORT_SEQUENCE_POLICY_WEIGHT, "policy_weight", a.policy_weight},
           SideInput{RETORT_SEQUENCE_VALUE, "value", a.value},
           SideInput{RETORT_SEQUENCE_OLD_VALUE, "old_value", a.old_value},
           SideInput{RETORT_SEQUENCE_RETURNS, "returns", a.returns},
           SideInput{RETORT_SEQUENCE_ADVANTAGE, "advantage", a.advantage},
           SideInput{RETORT_SEQUENCE_GROUP_ID, "group_id", a.group_id},
           SideInput{RETORT_SEQUENCE_TARGET, "target", a.target},
           SideInput{RETORT_SEQUENCE_VALUE_AFTER, "value", a.value},
       }) {
    if ((needs & input.bit) != 0 && input.tensor == nullptr) return input.name;
  }
  return nullptr;
}

Status CheckDerivatives(const char* name, const retort_tensor* d, const retort_tensor& mask) {
  const auto* scored = static_cast<const uint8_t*>(mask.data);
  for (int64_t t = 0; d != nullptr && t < Elements(*d); ++t) {
    const double value = At(*d, t);
    if (scored[t] == 0 ? value == 0 : std::isfinite(value)) continue;
    const std::string where =
        std::string(name) + " of token " + std::to_string(t) + " is " + std::to_string(value);
    return scored[t] == 0 ? Internal(where + ", but the token is masked: it must be exactly 0")
                          : DataLoss(where + ": it was not written, or is not finite");
  }
  return OkStatus();
}

Status CheckAux(const retort_loss_spec& spec, const retort_tensor* aux) {
  for (uint32_t k = 0; aux != nullptr && k < spec.n_aux; ++k) {
    const auto* row = static_cast<const double*>(aux->data) + k * 2;
    if (std::isfinite(row[0]) && std::isfinite(row[1]) && row[1] >= 0) continue;
    return DataLoss(std::string("aux value ") + spec.aux_names[k] + " has sum " +
                    std::to_string(row[0]) + " and count " + std::to_string(row[1]) +
                    ": both must be written and finite, the count at least 0");
  }
  return OkStatus();
}

Status CheckOutputs(const retort_loss_spec& spec, const retort_sequence_loss_args& args) {
  if (const double loss = At(*args.loss, 0); !std::isfinite(loss)) {
    return DataLoss("the loss is " + std::to_string(loss) +
                    ": it was not written, or is not finite");
  }
  RETORT_RETURN_IF_ERROR(CheckDerivatives("d_logp", args.d_logp, *args.mask));
  RETORT_RETURN_IF_ERROR(CheckDerivatives("d_entropy", args.d_entropy, *args.mask));
  RETORT_RETURN_IF_ERROR(CheckDerivatives("d_value", args.d_value, *args.mask));
  return CheckAux(spec, args.aux);
}

const retort_loss_spec* Spec(retort_instance* handle) {
  return CheckedInstance::Of(handle).sequence_spec;
}

retort_status Eval(retort_instance* handle, const retort_call* call,
                   const retort_sequence_loss_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  if (const char* name = Missing(self.sequence_spec->needs, *args); name != nullptr) {
    return Verify(relay, [&]() -> Status {
      return FailedPrecondition(std::string("the loss needs ") + name +
                                ", which this run doesn't offer");
    });
  }
  const bool on_cpu = call->device_type == RETORT_DEVICE_CPU;
  for (const retort_tensor* out :
       {args->loss, args->d_logp, args->d_entropy, args->d_value, args->aux}) {
    if (on_cpu) Fill(out, kNaN);
  }
  const retort_status status = RunGuarded(self, &relay, false, [&] {
    return self.in.sequence_loss->eval(self.inner, relay.call(), args);
  });
  if (status != RETORT_OK || !on_cpu) return status;
  return Verify(relay, [&] { return CheckOutputs(*self.sequence_spec, *args); });
}

}  // namespace

Status WrapSequenceLoss(CheckedInstance* self) {
  constexpr uint64_t kInputs = (RETORT_SEQUENCE_VALUE_AFTER << 1) - 1;
  self->out.sequence_loss = *self->in.sequence_loss;
  self->out.sequence_loss.struct_size = sizeof(retort_sequence_loss_v1);
  self->out.sequence_loss.spec = Spec;
  self->out.sequence_loss.eval = Eval;
  return Guard([&]() -> Status {
    self->sequence_spec = self->in.sequence_loss->spec(self->inner);
    return CheckLossSpec(self->sequence_spec, kInputs);
  });
}

}  // namespace retort::host
