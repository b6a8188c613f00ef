// SPDX-License-Identifier: Apache-2.0
#include "core/model/load_plan.h"

#include <algorithm>
#include <string>

#include "core/graph/value_head.h"
#include "core/json/json.h"
#include "core/model/files.h"

namespace retort::model {
namespace {

class Planner {
 public:
  Planner(const Source& source, const graph::Graph& graph) : source_(source), graph_(graph) {}

  Result<LoadPlan> Plan() {
    if (source_.tensors().empty()) {
      return FailedPrecondition(source_.path() +
                                ": there are no weights (model.safetensors or "
                                "model.safetensors.index.json)");
    }
    for (size_t i = 0; i < graph_.params.size(); ++i) {
      const graph::Param& param = graph_.params[i];
      if (param.adapter < 0 || graph::IsValueHead(param)) PlanParam(i);
    }
    CollectUnclaimed();
    if (!missing_.empty() || !misshaped_.empty() || !unclaimed_.empty()) return Mistakes();
    return std::move(plan_);
  }

 private:
  void PlanParam(size_t index) {
    const graph::Param& param = graph_.params[index];
    const RowsCols want = AsMatrix(param.shape);
    int64_t row = 0;
    bool whole = true;
    for (size_t s = 0; s < param.sources.size(); ++s) {
      const graph::Source& part = param.sources[s];
      claimed_.insert(part.checkpoint_name);
      const TensorInfo* tensor = source_.Find(part.checkpoint_name);
      if (tensor == nullptr) {
        whole = false;
        if (part.optional) {
          plan_.to_init.insert(index);
          row += part.row_end - part.row_begin;
        } else {
          missing_.push_back(part.checkpoint_name);
        }
        continue;
      }
      if (!PlanPiece(index, s, *tensor, want.cols, &row)) whole = false;
    }
    if (whole && row != want.rows) {
      misshaped_.push_back("\"" + param.name + "\": its parts have " + std::to_string(row) +
                           " rows together, wanted " + std::to_string(want.rows));
    }
  }

  bool PlanPiece(size_t index, size_t s, const TensorInfo& tensor, int64_t cols, int64_t* row) {
    const graph::Param& param = graph_.params[index];
    const graph::Source& part = param.sources[s];
    const RowsCols have = AsMatrix(tensor.shape, part.transpose);
    const bool all = part.row_begin == 0 && part.row_end == 0;
    const int64_t begin = part.row_begin, end = all ? have.rows : part.row_end;
    const bool alone = param.sources.size() == 1 && all && !part.transpose;
    const bool fits = have.cols == cols && end <= have.rows;
    if (!fits || (alone && tensor.shape != param.shape)) {
      misshaped_.push_back("\"" + tensor.name + "\" has shape " + ShapeText(tensor.shape) +
                           ", wanted for \"" + param.name + "\": " + ShapeText(param.shape) +
                           (all ? "" : " from rows up to " + std::to_string(end)));
      return false;
    }
    plan_.pieces.push_back({.param = index,
                            .source = s,
                            .param_begin = *row,
                            .source_begin = begin,
                            .rows = end - begin});
    *row += end - begin;
    return true;
  }

  void CollectUnclaimed() {
    const bool tied =
        std::none_of(graph_.params.begin(), graph_.params.end(), [](const graph::Param& param) {
          return std::any_of(param.sources.begin(), param.sources.end(), [](const auto& part) {
            return part.checkpoint_name == "lm_head.weight";
          });
        });
    for (const TensorInfo& tensor : source_.tensors()) {
      // Buffers that older checkpoints carry; a head that equals the embedding.
      if (tensor.name.ends_with("rotary_emb.inv_freq")) continue;
      if (tied && tensor.name == "lm_head.weight") continue;
      if (!claimed_.contains(tensor.name)) unclaimed_.push_back(tensor.name);
    }
  }

  Status Mistakes() const {
    std::vector<std::string> wanted(claimed_.begin(), claimed_.end()), missing;
    for (const std::string& name : missing_) {
      const auto near = json::Nearest(name, unclaimed_);
      missing.push_back("\"" + name + "\"" + (near ? " (there is \"" + *near + "\")" : ""));
    }
    std::string message = source_.path() + ": the weights don't fit the \"" + graph_.family +
                          "\" graph of its config.";
    message += Listed("Missing", missing) + Listed("Wrong shape", misshaped_);
    message += Listed("Not used by the graph", unclaimed_);
    return FailedPrecondition(message);
  }

  static std::string Listed(const char* title, const std::vector<std::string>& items) {
    constexpr size_t kShown = 20;
    std::string out;
    for (size_t i = 0; i < std::min(items.size(), kShown); ++i) {
      out.append(i > 0 ? ", "
                       : std::string("\n") + title + " (" + std::to_string(items.size()) + "): ")
          .append(items[i]);
    }
    return out + (items.size() > kShown ? ", ..." : "");
  }

  const Source& source_;
  const graph::Graph& graph_;
  LoadPlan plan_;
  std::set<std::string> claimed_;
  std::vector<std::string> missing_, misshaped_, unclaimed_;
};

}  // namespace

Result<LoadPlan> PlanLoading(const Source& source, const graph::Graph& graph) {
  return Planner(source, graph).Plan();
}

}  // namespace retort::model
