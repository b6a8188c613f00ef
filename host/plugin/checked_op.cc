// Ops: what infer says about shapes is complete and possible before anybody allocates by it.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

constexpr int32_t kUnset = -1;

bool IsKnown(retort_dtype d) {
  if (d.lanes != 1) return false;
  switch (d.code) {
    case RETORT_DTYPE_INT:
    case RETORT_DTYPE_UINT: return d.bits == 8 || d.bits == 16 || d.bits == 32 || d.bits == 64;
    case RETORT_DTYPE_FLOAT: return d.bits == 16 || d.bits == 32 || d.bits == 64;
    case RETORT_DTYPE_BFLOAT: return d.bits == 16;
    case RETORT_DTYPE_BOOL: return d.bits == 8;
    default: return false;
  }
}

Status CheckTensor(const retort_tensor& t) {
  if (t.ndim == kUnset) return InvalidArgument("infer did not describe it");
  if (t.ndim < 0 || t.ndim > static_cast<int32_t>(RETORT_OP_MAX_DIMS)) {
    return InvalidArgument("it has " + std::to_string(t.ndim) + " dimensions, 0 to 8 are allowed");
  }
  if (!IsKnown(t.dtype)) {
    return Unimplemented("its dtype does not exist (code " + std::to_string(t.dtype.code) + ", " +
                         std::to_string(t.dtype.bits) + " bits, " + std::to_string(t.dtype.lanes) +
                         " lanes)");
  }
  uint64_t bytes = t.dtype.bits / 8U;
  for (int32_t i = 0; i < t.ndim; ++i) {
    if (t.shape[i] < 0) {
      return InvalidArgument("dimension " + std::to_string(i) + " is " +
                             std::to_string(t.shape[i]));
    }
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(t.shape[i]), &bytes)) {
      return InvalidArgument("its size overflows");
    }
  }
  constexpr uint64_t kMaxBytes = uint64_t{1} << 46;
  if (bytes > kMaxBytes)
    return InvalidArgument("it would have " + std::to_string(bytes) + " bytes");
  return OkStatus();
}

Status CheckTensors(const char* what, const retort_tensor* tensors, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) {
    const Status status = CheckTensor(tensors[i]);
    if (!status.ok()) return status.WithContext(std::string(what) + "[" + std::to_string(i) + "]");
  }
  return OkStatus();
}

Status CheckOutputs(const retort_op_shapes& s) {
  for (uint32_t i = 0; i < s.n_out; ++i) {
    const retort_tensor& t = s.out[i];
    const bool is_float = t.dtype.code == RETORT_DTYPE_FLOAT || t.dtype.code == RETORT_DTYPE_BFLOAT;
    if (t.ndim == 2 && is_float) continue;
    return InvalidArgument("out[" + std::to_string(i) +
                           "] must be a matrix of token rows of a float type");
  }
  return OkStatus();
}

bool HasBitAbove(uint64_t bits, uint32_t n) { return n < 64 && (bits >> n) != 0; }

Status CheckInferred(const retort_op_shapes& asked, const retort_op_shapes& s) {
  if (s.n_in != asked.n_in || s.n_out != asked.n_out || s.out != asked.out ||
      s.saved != asked.saved || s.state != asked.state) {
    return Internal("infer changed members that are the host's");
  }
  if (s.n_saved > RETORT_OP_MAX_OUTPUTS || s.n_state > RETORT_OP_MAX_OUTPUTS) {
    return InvalidArgument("infer gave " + std::to_string(s.n_saved) + " saved and " +
                           std::to_string(s.n_state) +
                           " state tensors; at most 8 each are allowed");
  }
  RETORT_RETURN_IF_ERROR(CheckTensors("out", s.out, s.n_out));
  RETORT_RETURN_IF_ERROR(CheckTensors("saved", s.saved, s.n_saved));
  RETORT_RETURN_IF_ERROR(CheckTensors("state", s.state, s.n_state));
  RETORT_RETURN_IF_ERROR(CheckOutputs(s));
  if (HasBitAbove(s.backward_in, s.n_in) || HasBitAbove(s.backward_out, s.n_out)) {
    return InvalidArgument("backward_in or backward_out has a bit of a tensor that doesn't exist");
  }
  return OkStatus();
}

// What a plugin must fill in is marked, so that a forgotten one is found.
void Unset(retort_tensor* tensors) {
  for (uint32_t i = 0; i < RETORT_OP_MAX_OUTPUTS; ++i) tensors[i].ndim = kUnset;
}

retort_status Infer(retort_instance* handle, const retort_call* call, retort_op_shapes* shapes) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  if (shapes->n_out < 1 || shapes->n_out > RETORT_OP_MAX_OUTPUTS) {
    return Report(call, Code::kInvalidArgument, "an op has 1 to 8 outputs");
  }
  retort_op_shapes inner = *shapes;
  inner.struct_size = sizeof(inner);
  inner.n_saved = inner.n_state = 0;
  inner.backward_in = inner.backward_out = 0;
  for (retort_tensor* tensors : {inner.out, inner.saved, inner.state}) Unset(tensors);
  const retort_status status = RunGuarded(
      self, &relay, false, [&] { return self.in.op->infer(self.inner, relay.call(), &inner); });
  if (status != RETORT_OK) return status;
  const retort_status checked = Verify(relay, [&] { return CheckInferred(*shapes, inner); });
  if (checked != RETORT_OK) return checked;
  shapes->n_saved = inner.n_saved;
  shapes->n_state = inner.n_state;
  shapes->backward_in = inner.backward_in;
  shapes->backward_out = inner.backward_out;
  return RETORT_OK;
}

using Step = retort_status (*)(retort_instance*, const retort_call*, const retort_op_args*);

template <Step retort_op_v1::*kStep>
retort_status Run(retort_instance* handle, const retort_call* call, const retort_op_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  return RunGuarded(self, &relay, false,
                    [&] { return (self.in.op->*kStep)(self.inner, relay.call(), args); });
}

}  // namespace

void WrapOp(CheckedInstance* self) {
  retort_op_v1& out = self->out.op;
  out = *self->in.op;
  out.struct_size = sizeof(out);
  out.infer = Infer;
  out.forward = Run<&retort_op_v1::forward>;
  if (out.backward != nullptr) out.backward = Run<&retort_op_v1::backward>;
  if (out.decode != nullptr) out.decode = Run<&retort_op_v1::decode>;
}

}  // namespace retort::host
