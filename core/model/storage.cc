// SPDX-License-Identifier: Apache-2.0
#include "core/model/storage.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

#include "core/graph/value_head.h"
#include "core/json/json.h"
#include "core/model/packed.h"
#include "core/model/source.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::model {
namespace {

struct Name {
  Storage storage;
  std::string_view name;
  DType dtype;  // of kAuto: none
};
constexpr std::array<Name, 10> kNames = {{{Storage::kAuto, "auto", DType::kF32},
                                          {Storage::kF32, "f32", DType::kF32},
                                          {Storage::kF16, "f16", DType::kF16},
                                          {Storage::kBF16, "bf16", DType::kBF16},
                                          {Storage::kQ8_0, "q8_0", DType::kQ8_0},
                                          {Storage::kQ4_0, "q4_0", DType::kQ4_0},
                                          {Storage::kQ4_1, "q4_1", DType::kQ4_1},
                                          {Storage::kQ4_K, "q4_k", DType::kQ4_K},
                                          {Storage::kQ6_K, "q6_k", DType::kQ6_K},
                                          {Storage::kNF4, "nf4", DType::kNF4}}};

const Name& NameOf(Storage storage) { return kNames[static_cast<size_t>(storage)]; }

// Params that some op reads as weights of its own making.
std::vector<bool> TakenByCustomOps(const graph::Graph& graph) {
  std::vector<bool> taken(graph.params.size(), false);
  for (const graph::Value& value : graph.values) {
    if (value.param >= 0) taken[static_cast<size_t>(value.param)] = true;
  }
  return taken;
}

bool IsStorable(const graph::Param& param, bool taken) {
  constexpr uint32_t kMatrices =
      RETORT_ROLE_MATRIX | RETORT_ROLE_EMBEDDING | RETORT_ROLE_HEAD | RETORT_ROLE_EXPERT;
  return !taken && param.adapter < 0 && param.shape.size() >= 2 && param.roles != 0 &&
         (param.roles & ~kMatrices) == 0 && param.name != graph::kValueHeadName;
}

bool FitsRows(DType dtype, int64_t cols) {
  return retort_packed_bytes(PackedType(dtype), 1, cols) >= 0;
}

// The type itself, or the next wider one whose blocks fill the rows.
DType Fitting(DType wanted, int64_t cols) {
  if (FitsRows(wanted, cols)) return wanted;
  return FitsRows(DType::kQ8_0, cols) ? DType::kQ8_0 : DType::kF32;
}

// The one type in which the file has all rows of the param; nothing: it can't be kept.
std::optional<DType> TypeInFile(const graph::Param& param, const Source& source) {
  std::optional<DType> type;
  for (const graph::Source& part : param.sources) {
    const TensorInfo* tensor = source.Find(part.checkpoint_name);
    if (tensor == nullptr) return std::nullopt;
    const std::optional<DType> stored = source.StoredType(*tensor);
    if (!stored || (type && *type != *stored)) return std::nullopt;
    if (part.transpose && IsBlockType(*stored)) return std::nullopt;
    type = stored;
  }
  return type;
}

// Params by what they were to be and what they are.
class Notes {
 public:
  void Add(std::string wanted, DType kept, const graph::Param& param, std::string reason) {
    auto& entry = entries_[{std::move(wanted), kept}];
    if (entry.params++ == 0) {
      entry.first = param.name;
      entry.reason = std::move(reason);
    }
  }

  std::vector<std::string> Texts() const {
    std::vector<std::string> texts;
    for (const auto& [key, entry] : entries_) {
      std::string text = std::to_string(entry.params);
      text.append(entry.params == 1 ? " param is " : " params are ").append(DTypeName(key.second));
      text.append(" instead of ").append(key.first).append(": ").append(entry.reason);
      texts.push_back(text.append(" (first: ").append(entry.first).append(")"));
    }
    return texts;
  }

 private:
  struct Entry {
    int64_t params = 0;
    std::string first, reason;
  };
  std::map<std::pair<std::string, DType>, Entry> entries_;
};

std::string BlockReason(DType wanted) {
  return "their rows are no multiple of " +
         std::to_string(retort_packed_block_weights(PackedType(wanted))) + " weights";
}

DType Chosen(const graph::Param& param, const StorageOptions& options, const Source* source,
             Notes& notes) {
  const int64_t cols = param.shape.back();
  if (options.storage != Storage::kAuto) {
    const DType wanted = NameOf(options.storage).dtype, kept = Fitting(wanted, cols);
    if (kept != wanted) {
      notes.Add(std::string(DTypeName(wanted)), kept, param, BlockReason(wanted));
    }
    return kept;
  }
  if (source == nullptr || options.for_training) return DType::kF32;
  const std::optional<DType> stored = TypeInFile(param, *source);
  if (stored && FitsRows(*stored, cols)) return *stored;
  const TensorInfo* tensor = source->Find(param.sources[0].checkpoint_name);
  if (tensor != nullptr) {
    notes.Add(tensor->storage + " as in the file", DType::kF32, param,
              stored ? BlockReason(*stored) : "it can't be kept as it is");
  }
  return DType::kF32;
}

std::string Megabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

}  // namespace

std::string_view StorageName(Storage storage) { return NameOf(storage).name; }

std::string StorageNames(std::string_view separator) {
  std::string names;
  for (const Name& name : kNames) names.append(names.empty() ? "" : separator).append(name.name);
  return names;
}

Result<Storage> ParseStorage(std::string_view name) {
  std::vector<std::string> known;
  for (const Name& entry : kNames) {
    if (entry.name == name) return entry.storage;
    known.emplace_back(entry.name);
  }
  const auto near = json::Nearest(name, known);
  return InvalidArgument("storage \"" + std::string(name) + "\": must be one of " + StorageNames() +
                         (near ? "; did you mean \"" + *near + "\"?" : ""));
}

StoragePlan PlanStorage(const graph::Graph& graph, const StorageOptions& options,
                        const Source* source) {
  const std::vector<bool> taken = TakenByCustomOps(graph);
  const bool base_is_trained = options.for_training && graph.adapters.empty();
  StoragePlan plan;
  Notes notes;
  for (size_t i = 0; i < graph.params.size(); ++i) {
    const graph::Param& param = graph.params[i];
    const bool trained = base_is_trained && (param.flags & RETORT_PARAM_FROZEN) == 0;
    const bool storable = IsStorable(param, taken[i]) && !trained;
    plan.dtypes.push_back(storable ? Chosen(param, options, source, notes) : DType::kF32);
  }
  plan.notes = notes.Texts();
  return plan;
}

int64_t StoredBytes(DType dtype, const std::vector<int64_t>& shape) {
  const Matrices m = MatricesOf(shape);
  return m.count * MatrixBytes(dtype, m.rows, m.cols);
}

StorageReport ReportStorage(const graph::Graph& graph, const StoragePlan& plan) {
  StorageReport report;
  report.notes = plan.notes;
  for (size_t i = 0; i < graph.params.size(); ++i) {
    const DType dtype = plan.dtypes[i];
    auto part = std::find_if(report.parts.begin(), report.parts.end(),
                             [&](const auto& p) { return p.dtype == dtype; });
    if (part == report.parts.end()) part = report.parts.insert(part, {.dtype = dtype});
    ++part->params;
    part->bytes += StoredBytes(dtype, graph.params[i].shape);
  }
  std::stable_sort(report.parts.begin(), report.parts.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return report;
}

std::string StorageText(const StorageReport& report) {
  std::string text;
  for (const StorageReport::Part& part : report.parts) {
    text.append(text.empty() ? "" : ", ").append(DTypeName(part.dtype));
    text.append(" ").append(Megabytes(part.bytes));
  }
  return text;
}

}  // namespace retort::model
