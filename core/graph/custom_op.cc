// Method of InferOp: three numbers of rows that no fixed dimension is likely to equal; a first
// dimension that is the number of rows in all of them follows it, every other one must stand still.
// SPDX-License-Identifier: Apache-2.0
#include "core/graph/custom_op.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "core/base/abi_tensor.h"
#include "core/base/checked.h"
#include "core/json/json.h"

namespace retort::graph {
namespace {

constexpr std::array<int64_t, 3> kProbes = {1, 67, 1031};
constexpr int64_t kMaxElements = int64_t{1} << 40;

std::optional<DType> FromAbi(const retort_dtype& type) {
  for (const DType known : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kI64,
                            DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool}) {
    const retort_dtype abi = AbiDType(known);
    if (abi.code == type.code && abi.bits == type.bits && type.lanes == 1) return known;
  }
  return std::nullopt;
}

std::string DimsText(const std::vector<int64_t>& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(dims[i]);
  }
  return text + "]";
}

// One answer of infer.
struct Tensor {
  DType dtype = DType::kF32;
  std::vector<int64_t> dims;
};
struct Answer {
  std::vector<Tensor> out = {}, saved = {}, state = {};
  uint64_t backward_in = 0, backward_out = 0;
};

using Room = std::array<OpTensor, RETORT_OP_MAX_OUTPUTS>;
using RoomTensors = std::array<retort_tensor, RETORT_OP_MAX_OUTPUTS>;

RoomTensors Offer(Room& room, DType dtype) {
  RoomTensors tensors{};
  for (size_t i = 0; i < room.size(); ++i) {
    room[i].Set(nullptr, dtype, {});
    tensors[i] = room[i].tensor;
    tensors[i].shape = room[i].shape.data();
    tensors[i].strides = room[i].strides.data();
  }
  return tensors;
}

Result<std::vector<Tensor>> Read(const char* what, const RoomTensors& tensors, uint32_t n) {
  std::vector<Tensor> read;
  for (uint32_t i = 0; i < n; ++i) {
    const retort_tensor& t = tensors[i];
    const std::string name = std::string(what) + " " + std::to_string(i);
    const auto dtype = FromAbi(t.dtype);
    if (!dtype) return Unimplemented("infer: " + name + " has an unknown dtype");
    if (t.ndim < 0 || t.ndim > static_cast<int32_t>(RETORT_OP_MAX_DIMS) ||
        (t.shape == nullptr && t.ndim > 0)) {
      return InvalidArgument("infer: " + name + " has " + std::to_string(t.ndim) +
                             " dimensions; 0 to " + std::to_string(RETORT_OP_MAX_DIMS) +
                             " are allowed");
    }
    Tensor tensor{.dtype = *dtype, .dims = {t.shape, t.shape + t.ndim}};
    int64_t numel = 0;
    const bool positive =
        std::all_of(tensor.dims.begin(), tensor.dims.end(), [](int64_t d) { return d > 0; });
    if (!positive || !CheckedNumel(tensor.dims, &numel) || numel > kMaxElements) {
      return InvalidArgument("infer: " + name + " has shape " + DimsText(tensor.dims) +
                             "; sizes must be above 0 and sane");
    }
    read.push_back(std::move(tensor));
  }
  return read;
}

Status CheckCounts(const retort_op_shapes& shapes, uint32_t n_in, uint32_t n_out) {
  if (shapes.n_saved > RETORT_OP_MAX_OUTPUTS || shapes.n_state > RETORT_OP_MAX_OUTPUTS) {
    return InvalidArgument("infer: " + std::to_string(shapes.n_saved) + " saved and " +
                           std::to_string(shapes.n_state) + " state tensors; at most " +
                           std::to_string(RETORT_OP_MAX_OUTPUTS) + " of each are allowed");
  }
  const auto beyond = [](uint64_t bits, uint32_t n) { return n < 64 && (bits >> n) != 0; };
  if (beyond(shapes.backward_in, n_in) || beyond(shapes.backward_out, n_out)) {
    return InvalidArgument(
        "infer: backward_in or backward_out has a bit of an input or output that doesn't exist");
  }
  return OkStatus();
}

Result<Answer> Ask(const OpHandle& handle, std::span<const OpInput> inputs, uint32_t n_out,
                   DType dtype, int64_t rows) {
  std::vector<OpTensor> in(inputs.size());
  std::vector<const retort_tensor*> in_pointers;
  for (size_t i = 0; i < in.size(); ++i) {
    if (inputs[i].weight_shape.empty()) {
      in[i].Set(nullptr, dtype, rows, std::array{inputs[i].width});
    } else {
      in[i].Set(nullptr, dtype, inputs[i].weight_shape);
    }
    in_pointers.push_back(&in[i].tensor);
  }
  Room out_room, saved_room, state_room;
  RoomTensors out = Offer(out_room, dtype), saved = Offer(saved_room, dtype);
  RoomTensors state = Offer(state_room, dtype);
  const auto n_in = static_cast<uint32_t>(inputs.size());
  retort_op_shapes shapes = {.struct_size = sizeof(shapes),
                             .flags = 0,
                             .n_in = n_in,
                             .n_out = n_out,
                             .n_saved = 0,
                             .n_state = 0,
                             .in = in_pointers.data(),
                             .out = out.data(),
                             .saved = saved.data(),
                             .state = state.data(),
                             .backward_in = 0,
                             .backward_out = 0};
  PluginCall call("infer");
  const retort_status status = handle.table().infer(handle.instance(), call.Begin(), &shapes);
  if (status != RETORT_OK) {
    return call.End(
        status, std::to_string(inputs.size()) + " inputs, " + std::to_string(n_out) + " outputs");
  }
  RETORT_RETURN_IF_ERROR(CheckCounts(shapes, n_in, n_out));
  Answer answer{.backward_in = shapes.backward_in, .backward_out = shapes.backward_out};
  RETORT_ASSIGN_OR_RETURN(answer.out, Read("output", out, n_out));
  RETORT_ASSIGN_OR_RETURN(answer.saved, Read("saved", saved, shapes.n_saved));
  RETORT_ASSIGN_OR_RETURN(answer.state, Read("state", state, shapes.n_state));
  return answer;
}

// What the answers of all probes have in common.
Result<OpTensorSpec> Common(const std::string& name, const std::array<const Tensor*, 3>& probes) {
  OpTensorSpec spec{.dtype = probes[0]->dtype};
  std::vector<int64_t> dims = probes[0]->dims;
  spec.per_row = true;
  for (size_t p = 0; p < probes.size(); ++p) {
    if (probes[p]->dtype != spec.dtype) {
      return InvalidArgument("infer: " + name + " changes its dtype with the number of rows");
    }
    spec.per_row = spec.per_row && !probes[p]->dims.empty() && probes[p]->dims[0] == kProbes[p];
  }
  const auto rest = [&](const Tensor& t) {
    return std::vector<int64_t>(t.dims.begin() + (spec.per_row ? 1 : 0), t.dims.end());
  };
  spec.shape = rest(*probes[0]);
  for (const Tensor* probe : probes) {
    if (rest(*probe) == spec.shape) continue;
    return InvalidArgument("infer: " + name + " has shape " + DimsText(probes[0]->dims) + " for " +
                           std::to_string(kProbes[0]) + " row and " + DimsText(probes[2]->dims) +
                           " for " + std::to_string(kProbes[2]) +
                           "; its first dimension must be the number of rows, or no dimension may "
                           "depend on it");
  }
  return spec;
}

Result<std::vector<OpTensorSpec>> CommonList(const char* what, std::vector<Tensor> Answer::*list,
                                             const std::array<Answer, 3>& answers) {
  std::vector<OpTensorSpec> specs;
  const size_t n = (answers[0].*list).size();
  for (const Answer& answer : answers) {
    if ((answer.*list).size() == n) continue;
    return InvalidArgument("infer: the number of " + std::string(what) +
                           " tensors depends on the number of rows");
  }
  for (size_t i = 0; i < n; ++i) {
    RETORT_ASSIGN_OR_RETURN(
        OpTensorSpec spec,
        Common(std::string(what) + " " + std::to_string(i),
               {&(answers[0].*list)[i], &(answers[1].*list)[i], &(answers[2].*list)[i]}));
    specs.push_back(std::move(spec));
  }
  return specs;
}

Status CheckOutput(size_t index, const OpTensorSpec& out, DType dtype) {
  if (out.per_row && out.shape.size() == 1 && out.dtype == dtype) return OkStatus();
  return InvalidArgument("infer: output " + std::to_string(index) + " must be [T, width] of " +
                         std::string(DTypeName(dtype)) + ", like every value of a graph");
}

Status CheckStates(const OpSpec& spec, bool rowwise) {
  for (size_t i = 0; i < spec.state.size(); ++i) {
    if (!spec.state[i].per_row) continue;
    return InvalidArgument("infer: state " + std::to_string(i) +
                           " depends on the number of rows; it is of one slot");
  }
  if (rowwise && !spec.state.empty()) {
    return InvalidArgument("it says ROWWISE but declares state");
  }
  return OkStatus();
}

void WriteSorted(const json::Value& value, json::Writer& writer) {
  if (value.is_array()) {
    writer.BeginArray();
    for (size_t i = 0; i < value.size(); ++i) WriteSorted(value[i], writer);
    writer.EndArray();
  } else if (value.is_object()) {
    std::map<std::string_view, json::Value> members;
    for (size_t i = 0; i < value.size(); ++i) members[value.key_at(i)] = value.value_at(i);
    writer.BeginObject();
    for (const auto& [key, member] : members) WriteSorted(member, writer.Key(key));
    writer.EndObject();
  } else {
    writer.Copy(value);
  }
}

}  // namespace

int64_t OpTensorSpec::bytes() const {
  int64_t n = DTypeSize(dtype);
  for (int64_t d : shape) n *= d;
  return n;
}

void OpTensor::Set(void* data, DType dtype, int64_t rows, std::span<const int64_t> rest) {
  shape[0] = rows;
  std::copy(rest.begin(), rest.end(), shape.begin() + 1);
  Finish(data, dtype, static_cast<int32_t>(rest.size()) + 1);
}

void OpTensor::Set(void* data, DType dtype, std::span<const int64_t> dims) {
  std::copy(dims.begin(), dims.end(), shape.begin());
  Finish(data, dtype, static_cast<int32_t>(dims.size()));
}

void OpTensor::Finish(void* data, DType dtype, int32_t ndim) {
  int64_t stride = 1;
  for (int32_t d = ndim - 1; d >= 0; --d) {
    strides[static_cast<size_t>(d)] = stride;
    stride *= shape[static_cast<size_t>(d)];
  }
  tensor = {.data = data,
            .device = {.type = RETORT_DEVICE_CPU, .id = 0},
            .ndim = ndim,
            .dtype = AbiDType(dtype),
            .shape = shape.data(),
            .strides = strides.data(),
            .byte_offset = 0};
}

Result<OpSpec> InferOp(const OpHandle& handle, std::span<const OpInput> inputs, uint32_t n_out,
                       DType dtype) {
  std::array<Answer, 3> answers;
  for (size_t p = 0; p < answers.size(); ++p) {
    RETORT_ASSIGN_OR_RETURN(answers[p], Ask(handle, inputs, n_out, dtype, kProbes[p]));
    if (answers[p].backward_in != answers[0].backward_in ||
        answers[p].backward_out != answers[0].backward_out) {
      return InvalidArgument("infer: backward_in or backward_out depends on the number of rows");
    }
  }
  OpSpec spec{.backward_in = answers[0].backward_in, .backward_out = answers[0].backward_out};
  RETORT_ASSIGN_OR_RETURN(const std::vector<OpTensorSpec> outs,
                          CommonList("output", &Answer::out, answers));
  for (size_t i = 0; i < outs.size(); ++i) {
    RETORT_RETURN_IF_ERROR(CheckOutput(i, outs[i], dtype));
    spec.out_widths.push_back(outs[i].shape[0]);
  }
  RETORT_ASSIGN_OR_RETURN(spec.saved, CommonList("saved", &Answer::saved, answers));
  RETORT_ASSIGN_OR_RETURN(spec.state, CommonList("state", &Answer::state, answers));
  RETORT_RETURN_IF_ERROR(CheckStates(spec, (handle.table().flags & RETORT_OP_ROWWISE) != 0));
  return spec;
}

Result<std::string> CanonicalAttributes(std::string_view json) {
  if (json.empty()) return std::string("{}");
  RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(json, "attributes"));
  if (!document.root().is_object()) return InvalidArgument("attributes must be a JSON object");
  json::Writer writer;
  WriteSorted(document.root(), writer);
  return writer.Take();
}

}  // namespace retort::graph
