// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_export.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>

#include "core/model/files.h"
#include "core/model/gguf_export_parts.h"
#include "core/model/gguf_export_types.h"
#include "core/model/gguf_layout.h"

namespace retort::model {
namespace {

using io::GgmlType;

// One tensor of the file and the HF tensors that it is made of: one, or an expert's each.
struct Parts {
  std::string name;
  std::vector<std::string> from;
  bool is_head = false;
};

// Embedding, rotary factors, blocks by number, output.
int64_t Place(std::string_view name) {
  int64_t block = 0;
  if (name.starts_with("token_embd")) return -2;
  if (name.starts_with("rope_")) return -1;
  if (!name.starts_with("blk.")) return INT64_MAX;
  std::from_chars(name.data() + 4, name.data() + name.size(), block);
  return block;
}

class Planner {
 public:
  Planner(const Source& source, const graph::Graph& graph, const ExportTypes& types)
      : source_(source), graph_(graph), types_(types), chooser_(types) {}

  Result<GgufExport> Plan() {
    const std::string_view type = source_.config().root()["model_type"].StringOr("");
    arch_ = FindGgufArch(type);
    if (arch_ == nullptr) {
      return Unimplemented(source_.path() + ": config.json: model_type \"" + std::string(type) +
                           "\" is not written as GGUF (written are " + GgufModelTypes() + ")");
    }
    RETORT_ASSIGN_OR_RETURN(facts_, GgufFactsOf(graph_, *arch_, source_.path()));
    RETORT_RETURN_IF_ERROR(CheckComplete());
    RETORT_RETURN_IF_ERROR(Collect());
    ExportKeys keys;
    RETORT_RETURN_IF_ERROR(ConfigKeys(source_, *arch_, facts_, &keys));
    TypeKeys(types_, &keys.kvs);
    RETORT_RETURN_IF_ERROR(TokenizerKeys(source_, facts_.vocab, &keys));
    for (const Parts& parts : list_) RETORT_RETURN_IF_ERROR(Add(parts));
    for (auto& [name, values] : keys.factors) AddFactors(name, std::move(values));
    std::stable_sort(plan_.tensors.begin(), plan_.tensors.end(), [](const auto& a, const auto& b) {
      return Place(a.item.name) < Place(b.item.name);
    });
    plan_.kvs = std::move(keys.kvs);
    plan_.warnings = std::move(keys.warnings);
    chooser_.AddWarning(&plan_.warnings);
    return std::move(plan_);
  }

 private:
  Status CheckComplete() const {
    if (source_.tensors().empty()) {
      return FailedPrecondition(source_.path() + ": there are no weights (model.safetensors)");
    }
    for (const graph::Param& param : graph_.params) {
      for (const graph::Source& part : param.sources) {
        if (part.optional || source_.Find(part.checkpoint_name) != nullptr) continue;
        return FailedPrecondition(source_.path() + ": tensor \"" + part.checkpoint_name +
                                  "\" is missing, which the \"" + graph_.family +
                                  "\" graph of its config needs");
      }
    }
    return OkStatus();
  }

  Status Collect() {
    for (const TensorInfo& tensor : source_.tensors()) {
      if (tensor.name.ends_with("rotary_emb.inv_freq")) continue;  // of the config
      if (tensor.name == "lm_head.weight" && facts_.tied) continue;
      int64_t expert = -1;
      const std::string name = GgufName(*arch_, tensor.name, &expert);
      if (name.empty()) {
        return Unimplemented(source_.path() + ": tensor \"" + tensor.name +
                             "\" has no name in GGUF's architecture " + std::string(arch_->gguf));
      }
      RETORT_RETURN_IF_ERROR(expert < 0 ? AddWhole(name, tensor) : AddExpert(name, tensor, expert));
    }
    if (facts_.tied && arch_->head == GgufHead::kAlways) {
      list_.push_back(
          {.name = "output.weight", .from = {"model.embed_tokens.weight"}, .is_head = true});
    }
    return OkStatus();
  }

  Status AddWhole(const std::string& name, const TensorInfo& tensor) {
    const bool tied_head = facts_.tied && arch_->head != GgufHead::kAlways;
    list_.push_back(
        {.name = name,
         .from = {tensor.name},
         .is_head = name == "output.weight" || (tied_head && name == "token_embd.weight")});
    return OkStatus();
  }

  Status AddExpert(const std::string& name, const TensorInfo& tensor, int64_t expert) {
    if (expert >= facts_.experts.count) {
      return FailedPrecondition(source_.path() + ": tensor \"" + tensor.name +
                                "\": the config has " + std::to_string(facts_.experts.count) +
                                " experts");
    }
    const auto [it, is_new] = stacked_.emplace(name, list_.size());
    if (is_new) {
      list_.push_back({.name = name, .from = {}});
      list_.back().from.resize(static_cast<size_t>(facts_.experts.count));
    }
    list_[it->second].from[static_cast<size_t>(expert)] = tensor.name;
    return OkStatus();
  }

  Status Add(const Parts& parts) {
    const TensorInfo& first = *source_.Find(parts.from[0]);
    std::vector<int64_t> shape = first.shape;
    const RowsCols each = AsMatrix(shape);
    for (const std::string& name : parts.from) {
      const TensorInfo* tensor = source_.Find(name);
      if (tensor == nullptr || tensor->shape != first.shape) {
        return FailedPrecondition(source_.path() + ": the experts of " + parts.name +
                                  " are not all there, or differ in shape");
      }
    }
    const bool stacked = stacked_.contains(parts.name);
    if (stacked) shape.insert(shape.begin(), static_cast<int64_t>(parts.from.size()));
    if (parts.name.ends_with("ffn_gate_inp_shexp.weight") && each.rows == 1) shape = {each.cols};
    ExportTensor tensor;
    tensor.item = {parts.name, shape, chooser_.Choose(parts.name, shape, parts.is_head)};
    tensor.cls = TensorClass(parts.from[0]);
    RETORT_ASSIGN_OR_RETURN(const int64_t heads, Heads(first));
    const float plus = arch_->norm_plus_one && parts.name.ends_with("norm.weight") ? 1 : 0;
    // The file's rows of a gate that lost a dimension are its elements.
    const RowsCols unit = shape.size() == 1 ? RowsCols{each.rows * each.cols, 1} : each;
    tensor.read = [this_source = &source_, from = parts.from, unit, heads, plus](
                      int64_t begin, int64_t end, float* out) {
      return ReadFileRows(*this_source, from, unit, heads, plus, begin, end, out);
    };
    plan_.tensors.push_back(std::move(tensor));
    return OkStatus();
  }

  // Heads whose rows are reordered; 0: none.
  Result<int64_t> Heads(const TensorInfo& tensor) const {
    const bool q = tensor.name.find(".self_attn.q_proj.") != std::string::npos;
    const bool k = tensor.name.find(".self_attn.k_proj.") != std::string::npos;
    if (!arch_->permuted || (!q && !k)) return int64_t{0};
    const int64_t heads = q ? facts_.heads : facts_.kv_heads;
    if (AsMatrix(tensor.shape).rows != heads * facts_.head_dim) {
      return FailedPrecondition(source_.path() + ": tensor \"" + tensor.name + "\" has shape " +
                                ShapeText(tensor.shape) + ", wanted " +
                                std::to_string(heads * facts_.head_dim) + " rows");
    }
    return heads;
  }

  static Status ReadFileRows(const Source& source, const std::vector<std::string>& from,
                             const RowsCols& unit, int64_t heads, float plus, int64_t begin,
                             int64_t end, float* out) {
    const auto read = [&](const std::string& name, int64_t first, int64_t last, float* to) {
      // A source counts a matrix's rows; `unit` may see its elements.
      const RowsCols own = AsMatrix(source.Find(name)->shape);
      const int64_t per_row = own.cols / unit.cols;
      const auto view = TensorView::Contiguous(to, DType::kF32, {last - first, unit.cols});
      return source.ReadRows(name, first / per_row, (last + per_row - 1) / per_row, view);
    };
    for (int64_t row = begin; row < end;) {
      const auto part = static_cast<size_t>(row / unit.rows);
      const int64_t inside = row % unit.rows;
      const int64_t n = heads > 0 ? 1 : std::min(unit.rows - inside, end - row);
      const int64_t hf = heads > 0 ? UnpermutedRow(inside, unit.rows / heads) : inside;
      RETORT_RETURN_IF_ERROR(read(from[part], hf, hf + n, out + (row - begin) * unit.cols));
      row += n;
    }
    for (int64_t i = 0; plus != 0 && i < (end - begin) * unit.cols; ++i) out[i] += plus;
    return OkStatus();
  }

  void AddFactors(const std::string& name, std::vector<float> values) {
    ExportTensor tensor;
    tensor.item = {name, {static_cast<int64_t>(values.size())}, GgmlType::kF32};
    tensor.cls = TensorClass(name);
    tensor.read = [values = std::move(values)](int64_t begin, int64_t end, float* out) {
      std::copy(values.begin() + begin, values.begin() + end, out);
      return OkStatus();
    };
    plan_.tensors.push_back(std::move(tensor));
  }

  const Source& source_;
  const graph::Graph& graph_;
  const ExportTypes& types_;
  TypeChooser chooser_;
  const GgufArch* arch_ = nullptr;
  GgufFacts facts_;
  std::vector<Parts> list_;
  std::map<std::string, size_t> stacked_;  // in list_
  GgufExport plan_;
};

}  // namespace

Result<GgufExport> PlanExport(const Source& source, const graph::Graph& graph,
                              const ExportTypes& types) {
  return Planner(source, graph, types).Plan();
}

}  // namespace retort::model
