// SPDX-License-Identifier: Apache-2.0
#include "host/check/op_run.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>

#include "host/check/differences.h"
#include "host/check/guarded.h"

namespace retort::host::check {
namespace {

constexpr int64_t kSpareSlots = 2;
constexpr size_t kLargestState = size_t{1} << 22;  // elements of any tensor: rules stay small

std::vector<int64_t> ShapeOf(const std::vector<int64_t>& pattern, int64_t rows) {
  std::vector<int64_t> shape = pattern;
  if (!shape.empty() && shape[0] == OpLayout::kRows) shape[0] = rows;
  return shape;
}

// Room for infer's answers, in the form that the ABI describes.
struct Room {
  struct Entry {
    retort_tensor tensor;
    std::array<int64_t, RETORT_OP_MAX_DIMS> shape, strides;
  };
  std::array<Entry, RETORT_OP_MAX_OUTPUTS> entries{};
  std::array<retort_tensor, RETORT_OP_MAX_OUTPUTS> tensors{};
  Room() {
    for (size_t i = 0; i < tensors.size(); ++i) {
      tensors[i].device = {RETORT_DEVICE_CPU, 0};
      tensors[i].shape = entries[i].shape.data();
      tensors[i].strides = entries[i].strides.data();
    }
  }
};

Status CopyTensors(const Room& room, uint32_t n, const char* what, std::vector<ShapeCopy>* copies) {
  if (n > RETORT_OP_MAX_OUTPUTS) {
    return InvalidArgument(std::string("infer gave ") + std::to_string(n) + " " + what +
                           " tensors, at most 8 are allowed");
  }
  for (uint32_t i = 0; i < n; ++i) {
    const retort_tensor& t = room.tensors[i];
    const std::string name = std::string(what) + "[" + std::to_string(i) + "]";
    ShapeCopy& copy = copies->emplace_back();
    if (t.shape != room.entries[i].shape.data()) {
      return InvalidArgument("infer changed the pointer " + name +
                             ".shape; it is to write the sizes it points to");
    }
    if (t.ndim < 1 || t.ndim > static_cast<int32_t>(RETORT_OP_MAX_DIMS)) {
      return InvalidArgument("infer gave " + name + " " + std::to_string(t.ndim) +
                             " dimensions, 1 to 8 are allowed");
    }
    if (!ElemOf(t.dtype, &copy.elem))
      return InvalidArgument("infer gave " + name + " no known dtype");
    size_t size = 1;
    for (int32_t d = 0; d < t.ndim; ++d) {
      const int64_t n_d = t.shape[d];
      if (n_d < 0 || (n_d > 0 && size > kLargestState / static_cast<size_t>(n_d))) {
        return InvalidArgument("infer gave " + name + " the size " + std::to_string(n_d) +
                               " in dimension " + std::to_string(d));
      }
      size *= static_cast<size_t>(n_d);
      copy.shape.push_back(n_d);
    }
  }
  return OkStatus();
}

bool IsFloat(Elem elem) {
  return elem == Elem::kF32 || elem == Elem::kF64 || elem == Elem::kBF16 || elem == Elem::kF16;
}

Status CheckShapes(const OpShapesCopy& shapes, const OpLayout& layout, int64_t rows) {
  for (size_t i = 0; i < shapes.out.size(); ++i) {
    const ShapeCopy& out = shapes.out[i];
    if (out.shape.size() == 2 && out.shape[0] == rows && IsFloat(out.elem)) continue;
    return InvalidArgument("infer's out[" + std::to_string(i) +
                           "] is not [T, width] of a float type with T " + std::to_string(rows));
  }
  if ((shapes.backward_in >> layout.in.size()) != 0 || (shapes.backward_out >> layout.n_out) != 0) {
    return InvalidArgument("infer set bits of backward_in or backward_out beyond n_in or n_out");
  }
  return OkStatus();
}

void AddLayouts(int64_t width, std::vector<OpLayout>* all) {
  using Shapes = std::vector<std::vector<int64_t>>;
  const int64_t w = width;
  const Shapes params[] = {
      {},         {{w}},    {{w, w}}, {{w}, {w}}, {{w, w}, {w}}, {{w, w}, {w, w}}, {{1}},
      {{1}, {1}}, {{4, w}}, {{w, 4}}, {{w, 3}},   {{3, w}},      {{w, 4}, {w}}};
  for (const Shapes& more : params) {
    for (size_t n_values = 1; n_values <= 4; ++n_values) {
      for (uint32_t n_out = 1; n_out <= 3; ++n_out) {
        OpLayout layout{.in = Shapes(n_values, {OpLayout::kRows, w}), .n_out = n_out};
        layout.in.insert(layout.in.end(), more.begin(), more.end());
        all->push_back(std::move(layout));
      }
    }
  }
}

// "Tx64,64" or "Tx64,64;2" with the number of outputs.
Result<OpLayout> ParseLayout(const std::string& text) {
  const auto bad = [&] {
    return InvalidArgument("--inputs \"" + text +
                           "\": must be shapes like Tx64,64 (a value, then a param), and may end "
                           "with ;N, the number of outputs");
  };
  OpLayout layout{.in = {{}}, .n_out = 1};
  int64_t number = 0;
  bool any = false, outputs = false;
  const auto finish = [&] {
    if (!any) return false;
    if (outputs) layout.n_out = static_cast<uint32_t>(number);
    if (!outputs) layout.in.back().push_back(number);
    number = 0;
    any = false;
    return true;
  };
  for (const char c : text) {
    if (c >= '0' && c <= '9' && number >= 0 && number < 100'000) {
      number = 10 * number + (c - '0');
      any = true;
    } else if (c == 'T' && layout.in.back().empty() && !any && !outputs) {
      number = OpLayout::kRows;
      any = true;
    } else if ((c == 'x' || c == ',' || c == ';') && !outputs && finish()) {
      if (c == ',') layout.in.emplace_back();
      outputs = c == ';';
    } else {
      return bad();
    }
  }
  if (!finish() || layout.n_out < 1 || layout.n_out > RETORT_OP_MAX_OUTPUTS) return bad();
  return layout;
}

}  // namespace

std::string OpLayout::Text() const {
  std::string text;
  for (const std::vector<int64_t>& shape : in) {
    if (!text.empty()) text += ",";
    for (size_t d = 0; d < shape.size(); ++d) {
      text += (d > 0 ? "x" : "") + (shape[d] == kRows ? "T" : std::to_string(shape[d]));
    }
  }
  return n_out == 1 ? text : text + ";" + std::to_string(n_out);
}

Result<Op> Op::Open(const Subject& subject) {
  RETORT_ASSIGN_OR_RETURN(RawInstance plugin, RawInstance::Create(subject));
  Op op(std::move(plugin));
  if (op.plugin_.Find(RETORT_OP_INTERFACE) == nullptr) return op;
  RETORT_ASSIGN_OR_RETURN(op.table_, op.plugin_.Table<retort_op_v1>(RETORT_OP_INTERFACE));
  return op;
}

retort_status Op::CallInfer(const OpLayout& layout, int64_t rows, Elem elem, RawCall* call,
                            OpShapesCopy* copy, Status* problem) const {
  std::vector<Tensor> inputs;
  std::vector<const retort_tensor*> pointers;
  for (const std::vector<int64_t>& pattern : layout.in) {
    Tensor& tensor = inputs.emplace_back("in", elem, ShapeOf(pattern, rows));
    tensor.get()->data = nullptr;
  }
  for (Tensor& tensor : inputs) pointers.push_back(tensor.get());
  Room out, saved, state;
  retort_op_shapes raw{};
  raw.n_in = static_cast<uint32_t>(layout.in.size());
  raw.n_out = layout.n_out;
  raw.in = pointers.data();
  raw.out = out.tensors.data();
  raw.saved = saved.tensors.data();
  raw.state = state.tensors.data();
  GuardedStruct<retort_op_shapes> shapes(raw);
  const retort_status status = table_->infer(plugin_.get(), call->Begin(), shapes.get());
  if (status != RETORT_OK) return status;
  const retort_op_shapes& got = *shapes.get();
  copy->backward_in = got.backward_in;
  copy->backward_out = got.backward_out;
  *problem = CopyTensors(out, layout.n_out, "out", &copy->out);
  if (problem->ok()) *problem = CopyTensors(saved, got.n_saved, "saved", &copy->saved);
  if (problem->ok()) *problem = CopyTensors(state, got.n_state, "state", &copy->state);
  if (problem->ok()) *problem = CheckShapes(*copy, layout, rows);
  return status;
}

Result<OpShapesCopy> Op::Infer(const OpLayout& layout, int64_t rows, Elem elem) const {
  OpShapesCopy copy;
  Status problem;
  RawCall call;
  const retort_status status = CallInfer(layout, rows, elem, &call, &copy, &problem);
  RETORT_RETURN_IF_ERROR(call.End(status, "infer for " + layout.Text()));
  RETORT_RETURN_IF_ERROR(problem);
  return copy;
}

Result<retort_status> Op::InferStatus(const OpLayout& layout, int64_t rows, Elem elem) const {
  OpShapesCopy copy;
  Status problem;
  RawCall call;
  const retort_status status = CallInfer(layout, rows, elem, &call, &copy, &problem);
  if (const Status misuse = call.EndFailed(status, "infer"); !misuse.ok()) return misuse;
  return status;
}

Result<OpLayout> Op::FindLayout(const Subject& subject) const {
  if (!subject.inputs.empty()) return ParseLayout(subject.inputs);
  std::vector<OpLayout> all;
  for (const int64_t width : {16, 64, 8, 32}) AddLayouts(width, &all);
  for (const OpLayout& layout : all) {
    RETORT_ASSIGN_OR_RETURN(const retort_status status, InferStatus(layout, 5, Elem::kF32));
    if (status == RETORT_OK) return layout;
  }
  return NotFound("infer takes none of the " + std::to_string(all.size()) +
                  " layouts that were tried; say with --inputs which it takes, like Tx64,64");
}

Elem Op::BestElem(const OpLayout& layout) const {
  const Result<retort_status> status = InferStatus(layout, 5, Elem::kF64);
  return status.ok() && *status == RETORT_OK ? Elem::kF64 : Elem::kF32;
}

OpRun::OpRun(const OpLayout& layout, OpShapesCopy shapes, const std::vector<int64_t>& lengths,
             Elem elem, Rng* rng)
    : cu_seqlens("cu_seqlens", Elem::kI32, {static_cast<int64_t>(lengths.size()) + 1}),
      positions("positions", Elem::kI32,
                {std::accumulate(lengths.begin(), lengths.end(), int64_t{0})}),
      slot("slot", Elem::kI32, {static_cast<int64_t>(lengths.size())}),
      want_d_in(layout.in.size(), true),
      layout_(layout),
      shapes_(std::move(shapes)) {
  const int64_t n_rows = positions.size(), n = slot.size();
  const auto named = [](const char* name, size_t i) {
    return std::string(name) + "[" + std::to_string(i) + "]";
  };
  for (size_t i = 0; i < layout.in.size(); ++i) {
    in.emplace_back(named("in", i), elem, ShapeOf(layout.in[i], n_rows)).Randomise(rng, 1);
    d_in.emplace_back(named("d_in", i), elem, ShapeOf(layout.in[i], n_rows));
  }
  for (size_t i = 0; i < shapes_.out.size(); ++i) {
    const ShapeCopy& s = shapes_.out[i];
    const std::vector<int64_t> shape = {n_rows, s.shape[1]};
    out.emplace_back(named("out", i), s.elem, shape);
    d_out.emplace_back(named("d_out", i), s.elem, shape).Randomise(rng, 1);
  }
  for (size_t i = 0; i < shapes_.saved.size(); ++i) {
    saved.emplace_back(named("saved", i), shapes_.saved[i].elem, shapes_.saved[i].shape);
  }
  for (size_t i = 0; i < shapes_.state.size(); ++i) {
    std::vector<int64_t> shape = {n + kSpareSlots};
    shape.insert(shape.end(), shapes_.state[i].shape.begin(), shapes_.state[i].shape.end());
    state.emplace_back(named("state", i), shapes_.state[i].elem, shape).Fill(0);
  }
  int64_t t = 0;
  cu_seqlens.Set(0, 0);
  for (int64_t s = 0; s < n; ++s) {
    for (int64_t i = 0; i < lengths[static_cast<size_t>(s)]; ++i, ++t) {
      positions.Set(t, static_cast<double>(i));
    }
    cu_seqlens.Set(s + 1, static_cast<double>(t));
    slot.Set(s, static_cast<double>(n - s));  // the last first; 0 and n + 1 are of nobody
  }
}

OpRun OpRun::Part(const OpShapesCopy& shapes, const std::vector<int64_t>& picked,
                  const std::vector<int64_t>& lengths, const std::vector<int64_t>& first) const {
  Rng unused((RngKey()));
  OpRun part(layout_, shapes, lengths, in[0].elem(), &unused);
  for (size_t i = 0; i < in.size(); ++i) {
    if (!layout_.is_value(i)) part.in[i] = in[i];
  }
  for (size_t k = 0; k < picked.size(); ++k) {
    const auto row = static_cast<int64_t>(k);
    for (size_t i = 0; i < in.size(); ++i) {
      if (layout_.is_value(i)) part.in[i].SetRows(row, in[i].Rows(picked[k], picked[k] + 1));
    }
    for (size_t i = 0; i < out.size(); ++i) {
      part.d_out[i].SetRows(row, d_out[i].Rows(picked[k], picked[k] + 1));
    }
  }
  part.state = state;
  int64_t t = 0;
  for (size_t s = 0; s < lengths.size(); ++s) {
    for (int64_t i = 0; i < lengths[s]; ++i) {
      part.positions.Set(t++, static_cast<double>(first[s] + i));
    }
  }
  return part;
}

void OpRun::Remember(std::vector<Tensor>* tensors) const {
  for (Tensor& tensor : *tensors) tensor.Remember();
}

retort_op_args OpRun::Args(bool backward, bool with_saved, bool with_state) {
  in_pointers_.clear();
  out_pointers_.clear();
  d_in_pointers_.clear();
  const auto all = [](std::vector<Tensor>& tensors) {
    std::vector<retort_tensor*> pointers;
    for (Tensor& tensor : tensors) pointers.push_back(tensor.get());
    return pointers;
  };
  for (size_t i = 0; i < in.size(); ++i) {
    const bool there = !backward || (shapes_.backward_in >> i & 1) != 0;
    in_pointers_.push_back(there ? in[i].get() : nullptr);
    d_in_pointers_.push_back(want_d_in[i] ? d_in[i].get() : nullptr);
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const bool there = !backward || (shapes_.backward_out >> i & 1) != 0;
    out_pointers_.push_back(there ? out[i].get() : nullptr);
  }
  saved_pointers_ = all(saved);
  state_pointers_ = all(state);
  const std::vector<retort_tensor*> d_outs = all(d_out);
  d_out_pointers_.assign(d_outs.begin(), d_outs.end());
  retort_op_args args{};
  args.struct_size = sizeof(args);
  args.n_in = static_cast<uint32_t>(in.size());
  args.n_out = static_cast<uint32_t>(out.size());
  args.n_saved = with_saved ? static_cast<uint32_t>(saved.size()) : 0;
  args.n_state = with_state ? static_cast<uint32_t>(state.size()) : 0;
  args.in = in_pointers_.data();
  args.out = out_pointers_.data();
  args.saved = args.n_saved > 0 ? saved_pointers_.data() : nullptr;
  args.state = args.n_state > 0 ? state_pointers_.data() : nullptr;
  args.d_out = backward ? d_out_pointers_.data() : nullptr;
  args.d_in = backward ? d_in_pointers_.data() : nullptr;
  args.cu_seqlens = cu_seqlens.get();
  args.positions = positions.get();
  args.slot = args.n_state > 0 ? slot.get() : nullptr;
  return args;
}

Status OpRun::Forward(const Op& op, const How& how) {
  for (Tensor& tensor : out) tensor.Poison();
  for (Tensor& tensor : saved) tensor.Poison();
  Remember(&in);
  retort_op_args raw = Args(false, how.keep_saved, how.with_state);
  if (how.in_place) out_pointers_[0] = in[0].get();
  GuardedStruct<retort_op_args> args(raw, how.growth);
  RawCall call(how.growth);
  call.raw().n_threads = how.n_threads;
  RETORT_RETURN_IF_ERROR(call.End(op.table().forward(op.instance(), call.Begin(), args.get()),
                                  "forward of " + std::to_string(rows()) + " rows"));
  if (how.in_place) out[0] = in[0];
  return args.untouched() ? OkStatus() : Internal("forward wrote into its argument struct");
}

Status OpRun::Backward(const Op& op, int32_t n_threads, Growth growth) {
  for (Tensor& tensor : d_in) tensor.Poison();
  for (std::vector<Tensor>* inputs : {&in, &out, &saved, &d_out}) Remember(inputs);
  GuardedStruct<retort_op_args> args(Args(true, true, false), growth);
  RawCall call(growth);
  call.raw().n_threads = n_threads;
  RETORT_RETURN_IF_ERROR(call.End(op.table().backward(op.instance(), call.Begin(), args.get()),
                                  "backward of " + std::to_string(rows()) + " rows"));
  return args.untouched() ? OkStatus() : Internal("backward wrote into its argument struct");
}

Status OpRun::Decode(const Op& op) {
  if (op.table().decode == nullptr) {
    return Forward(op, {.keep_saved = false, .with_state = !state.empty()});
  }
  for (Tensor& tensor : out) tensor.Poison();
  GuardedStruct<retort_op_args> args(Args(false, false, true));
  RawCall call;
  return call.End(op.table().decode(op.instance(), call.Begin(), args.get()),
                  "decode of " + std::to_string(rows()) + " rows");
}

double OpRun::Scalar() const {
  double sum = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    for (int64_t k = 0; k < out[i].size(); ++k) sum += d_out[i].At(k) * out[i].At(k);
  }
  return sum;
}

std::string OpRun::ForwardProblem(const How& how) const {
  const auto first = [](const std::vector<Tensor>& tensors, auto&& problem) -> std::string {
    for (const Tensor& tensor : tensors) {
      if (std::string text = problem(tensor); !text.empty()) return text;
    }
    return "";
  };
  const auto damage = [](const Tensor& tensor) { return tensor.Damage(); };
  for (const std::vector<Tensor>* tensors : {&in, &out, &saved, &state}) {
    if (std::string text = first(*tensors, damage); !text.empty()) return text;
  }
  if (!how.in_place) {
    std::string text = first(in, [](const Tensor& tensor) { return tensor.Change(); });
    if (!text.empty()) return text;
  }
  return first(out, FirstNonFinite);
}

std::string OpRun::BackwardProblem() const {
  for (const std::vector<Tensor>* inputs : {&in, &out, &saved, &d_out}) {
    for (const Tensor& tensor : *inputs) {
      std::string text = tensor.Damage();
      if (text.empty()) text = tensor.Change();
      if (!text.empty()) return text;
    }
  }
  for (size_t i = 0; i < d_in.size(); ++i) {
    std::string text = d_in[i].Damage();
    if (text.empty() && want_d_in[i]) text = FirstNonFinite(d_in[i]);
    if (!text.empty()) return text;
  }
  return "";
}

}  // namespace retort::host::check
