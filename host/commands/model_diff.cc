// model.diff: two models compared tensor by tensor, in whatever form and type they lie.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/threads.h"
#include "core/model/layout.h"
#include "host/commands/command.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

constexpr int64_t kPieceWeights = int64_t{1} << 18;
constexpr size_t kShown = 10;

struct TensorDiff {
  std::string name, shape_a = {}, shape_b = {}, stored_a = {}, stored_b = {};
  double max = 0, square = 0, square_a = 0;
  int64_t n = 0;  // weights
  Status status = {};
  bool comparable() const { return shape_a == shape_b; }
  double rms() const { return n > 0 ? std::sqrt(square / static_cast<double>(n)) : 0; }
  double relative() const { return square_a > 0 ? std::sqrt(square / square_a) : 0; }
};

struct ModelDiff {
  std::vector<std::string> only_a, only_b;
  std::vector<TensorDiff> tensors;  // in both, by name
  int64_t n_shapes = 0, n_beyond = 0, n_stored = 0;
  bool differs() const {
    return !only_a.empty() || !only_b.empty() || n_shapes > 0 || n_beyond > 0;
  }
};

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (const int64_t d : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(d);
  return out + "]";
}

Status Compare(const model::Source& a, const model::Source& b, const engine::Cancel& cancel,
               TensorDiff* diff) {
  const model::RowsCols m = model::AsMatrix(a.Find(diff->name)->shape);
  const int64_t step = std::max<int64_t>(kPieceWeights / std::max<int64_t>(m.cols, 1), 1);
  std::vector<float> x, y;
  for (int64_t row = 0; row < m.rows && m.cols > 0; row += step) {
    if (cancel.load(std::memory_order_relaxed) != 0) return Cancelled("interrupted");
    const int64_t n = std::min(step, m.rows - row);
    const auto read = [&](const model::Source& source, std::vector<float>* out) -> Status {
      out->resize(static_cast<size_t>(n * m.cols));
      const auto view = TensorView::Contiguous(out->data(), DType::kF32, {n, m.cols});
      RETORT_RETURN_IF_ERROR(source.ReadRows(diff->name, row, row + n, view));
      source.Release(diff->name, row, row + n);
      return OkStatus();
    };
    RETORT_RETURN_IF_ERROR(read(a, &x));
    RETORT_RETURN_IF_ERROR(read(b, &y));
    for (size_t i = 0; i < x.size(); ++i) {
      const double difference = double{y[i]} - double{x[i]};
      diff->max = std::max(diff->max, std::abs(difference));
      diff->square += difference * difference;
      diff->square_a += double{x[i]} * double{x[i]};
    }
    diff->n += static_cast<int64_t>(x.size());
  }
  return OkStatus();
}

Result<ModelDiff> Diff(const CommandCall& call, const model::Source& a, const model::Source& b,
                       double tolerance) {
  ModelDiff out;
  for (const model::TensorInfo& tensor : a.tensors()) {
    const model::TensorInfo* other = b.Find(tensor.name);
    if (other == nullptr) {
      out.only_a.push_back(tensor.name);
      continue;
    }
    out.tensors.push_back({.name = tensor.name,
                           .shape_a = ShapeText(tensor.shape),
                           .shape_b = ShapeText(other->shape),
                           .stored_a = tensor.storage,
                           .stored_b = other->storage});
  }
  for (const model::TensorInfo& tensor : b.tensors()) {
    if (a.Find(tensor.name) == nullptr) out.only_b.push_back(tensor.name);
  }
  ParallelFor(static_cast<int64_t>(out.tensors.size()), call.n_threads,
              [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                  TensorDiff& diff = out.tensors[static_cast<size_t>(i)];
                  if (diff.comparable()) diff.status = Compare(a, b, call.cancel, &diff);
                }
              });
  for (const TensorDiff& diff : out.tensors) {
    RETORT_RETURN_IF_ERROR(diff.status);
    out.n_shapes += diff.comparable() ? 0 : 1;
    out.n_beyond += diff.max > tolerance ? 1 : 0;
    out.n_stored += diff.stored_a != diff.stored_b ? 1 : 0;
  }
  return out;
}

// Largest difference first, then by name; shapes that differ before all.
std::vector<const TensorDiff*> Largest(const ModelDiff& diff) {
  std::vector<const TensorDiff*> list;
  for (const TensorDiff& one : diff.tensors) {
    if (one.max > 0 || !one.comparable()) list.push_back(&one);
  }
  std::stable_sort(list.begin(), list.end(), [](const TensorDiff* x, const TensorDiff* y) {
    if (x->comparable() != y->comparable()) return !x->comparable();
    return x->max > y->max;
  });
  return list;
}

std::string Listed(const char* title, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string out = std::string(title) + std::to_string(names.size()) + ": ";
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    out += (i > 0 ? ", " : "") + names[i];
  }
  return out + (names.size() > kShown ? ", ...\n" : "\n");
}

std::string Text(const ModelDiff& diff) {
  using enum Align;
  std::string out = "tensors      " + std::to_string(diff.tensors.size()) + " in both\n";
  out += Listed("only in A    ", diff.only_a) + Listed("only in B    ", diff.only_b);
  if (diff.n_shapes > 0) out += "other shape  " + std::to_string(diff.n_shapes) + "\n";
  if (diff.n_stored > 0) out += "other type   " + std::to_string(diff.n_stored) + "\n";
  const std::vector<const TensorDiff*> list = Largest(diff);
  out += "differing    " + std::to_string(list.size()) + "\n";
  if (list.empty()) return out;
  Table table({{"tensor", kLeft},
               {"A", kLeft},
               {"B", kLeft},
               {"max", kRight},
               {"rms", kRight},
               {"of rms of A", kRight}});
  for (size_t i = 0; i < std::min(list.size(), kShown); ++i) {
    const TensorDiff& one = *list[i];
    if (one.comparable()) {
      table.AddRow({one.name, one.stored_a, one.stored_b, ShortNumber(one.max),
                    ShortNumber(one.rms()), ShortNumber(100 * one.relative()) + " %"});
    } else {
      table.AddRow({one.name, one.stored_a + " " + one.shape_a, one.stored_b + " " + one.shape_b,
                    "", "", ""});
    }
  }
  return out + "\n" + table.Render();
}

std::string Json(const ModelDiff& diff, double tolerance) {
  json::Writer w;
  w.BeginObject().Field("equal", !diff.differs()).Field("tolerance", tolerance);
  const auto names = [&](const char* key, const std::vector<std::string>& list) {
    w.Key(key).BeginArray();
    for (const std::string& name : list) w.String(name);
    w.EndArray();
  };
  names("only_a", diff.only_a);
  names("only_b", diff.only_b);
  w.Key("tensors").BeginArray();
  for (const TensorDiff& one : diff.tensors) {
    w.BeginObject().Field("name", one.name).Key("shape_a").Raw(one.shape_a);
    w.Key("shape_b").Raw(one.shape_b);
    w.Field("stored_a", one.stored_a).Field("stored_b", one.stored_b);
    if (one.comparable()) {
      w.Field("max", one.max).Field("rms", one.rms()).Field("relative", one.relative());
    }
    w.EndObject();
  }
  return w.EndArray().EndObject().Take();
}

Status Verdict(const ModelDiff& diff, double tolerance) {
  if (!diff.differs()) return OkStatus();
  std::string why;
  const auto add = [&](int64_t n, const std::string& what) {
    if (n > 0) why += (why.empty() ? "" : ", ") + std::to_string(n) + " " + what;
  };
  add(static_cast<int64_t>(diff.only_a.size()), "tensors only in A");
  add(static_cast<int64_t>(diff.only_b.size()), "only in B");
  add(diff.n_shapes, "of another shape");
  add(diff.n_beyond, "with weights that differ" +
                         (tolerance > 0 ? " by more than " + ShortNumber(tolerance) : ""));
  return FailedPrecondition("the models differ: " + why);
}

}  // namespace

Outcome RunModelDiff(const CommandCall& call) {
  RETORT_ASSIGN_OR_RETURN(const auto a, model::Source::Open(call.args.Text("a")));
  RETORT_ASSIGN_OR_RETURN(const auto b, model::Source::Open(call.args.Text("b")));
  for (const model::Source* source : {a.get(), b.get()}) {
    if (!source->tensors().empty()) continue;
    return FailedPrecondition(source->path() + ": there are no weights (model.safetensors)");
  }
  const double tolerance = call.args.Number("tolerance", 0);
  RETORT_ASSIGN_OR_RETURN(const ModelDiff diff, Diff(call, *a, *b, tolerance));
  RETORT_RETURN_IF_ERROR(call.args.Flag("json") ? call.io.Line(Json(diff, tolerance))
                                                : call.io.Lines(Text(diff)));
  return Verdict(diff, tolerance);
}

}  // namespace retort::host
