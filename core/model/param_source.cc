// SPDX-License-Identifier: Apache-2.0
#include "core/model/param_source.h"

#include <algorithm>

#include "core/model/checkpoint_items.h"
#include "core/model/files.h"
#include "core/model/save.h"

namespace retort::model {
namespace {

class ParamSource final : public SourceBase {
 public:
  static Result<std::unique_ptr<Source>> Make(const Source& base, const graph::Graph& graph,
                                              std::span<const TensorView> params) {
    FolderTexts texts{.config = base.config_text(),
                      .tokenizer = base.tokenizer_json(),
                      .tokenizer_config = base.tokenizer_config_json(),
                      .generation_config = base.generation_config_json(),
                      .chat_template = base.chat_template()};
    if (!graph.has_lm_head) {
      RETORT_ASSIGN_OR_RETURN(texts.config, SavedConfig(texts.config, DType::kF32, true));
    }
    RETORT_ASSIGN_OR_RETURN(json::Document config,
                            json::Document::Parse(texts.config, base.path() + ": config.json"));
    std::unique_ptr<ParamSource> source(
        new ParamSource(base.path(), std::move(texts), std::move(config), graph, params));
    RETORT_ASSIGN_OR_RETURN(source->views_, source->items_.Collect());
    std::sort(source->views_.begin(), source->views_.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    for (const io::SafetensorsItem& item : source->views_) {
      const auto* shape = item.view.shape.data();
      source->tensors_.push_back({.name = item.name,
                                  .shape = {shape, shape + item.view.ndim},
                                  .storage = "F32",
                                  .bytes = static_cast<uint64_t>(item.view.bytes())});
    }
    return std::unique_ptr<Source>(std::move(source));
  }

  bool is_gguf() const override { return false; }

 protected:
  Status Read(const TensorInfo& info, int64_t begin, int64_t end,
              const TensorView& out) const override {
    const TensorView& view = views_[static_cast<size_t>(&info - tensors_.data())].view;
    const RowsCols m = AsMatrix(info.shape);
    for (int64_t row = begin; row < end; ++row) {
      const float* from = view.as<float>() + RowOffset(view, row);
      const int64_t step = view.ndim < 2 ? 1 : view.strides[static_cast<size_t>(view.ndim - 1)];
      for (int64_t c = 0; c < m.cols; ++c) {
        const int64_t at = (row - begin) * m.cols + c;
        if (out.dtype == DType::kF32) out.as<float>()[at] = from[c * step];
        if (out.dtype == DType::kF64) out.as<double>()[at] = from[c * step];
      }
    }
    return OkStatus();
  }
  void ReadBytes(const TensorInfo&, int64_t, int64_t, char*) const override {}  // no StoredType
  void ReleaseBytes(const TensorInfo&, int64_t, int64_t) const override {}
  std::vector<std::string> files() const override { return {}; }

 private:
  ParamSource(const std::string& path, FolderTexts texts, json::Document config,
              const graph::Graph& graph, std::span<const TensorView> params)
      : SourceBase(path, std::move(texts), std::move(config)), items_(graph, params, DType::kF32) {}

  // Elements before a row; rows are all dimensions but the last, flattened.
  static int64_t RowOffset(const TensorView& view, int64_t row) {
    if (view.ndim == 0) return 0;
    if (view.ndim == 1) return row * view.strides[0];
    int64_t offset = 0;
    for (size_t d = static_cast<size_t>(view.ndim - 1); d-- > 0; row /= view.shape[d]) {
      offset += row % view.shape[d] * view.strides[d];
    }
    return offset;
  }

  CheckpointItems items_;
  std::vector<io::SafetensorsItem> views_;  // of tensors_
};

}  // namespace

Result<std::unique_ptr<Source>> SourceOfParams(const Source& base, const graph::Graph& graph,
                                               std::span<const TensorView> params) {
  return ParamSource::Make(base, graph, params);
}

}  // namespace retort::model
