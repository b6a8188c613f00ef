// Saving: params under their checkpoint names, and the text files of an HF folder.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "core/io/safetensors.h"
#include "core/json/json.h"
#include "core/model/files.h"
#include "core/model/layout.h"
#include "core/model/params.h"

namespace retort::model {
namespace {

struct ModelClass {
  std::string_view model_type, class_name;
};
constexpr std::array<ModelClass, 11> kClasses = {{{"llama", "LlamaForCausalLM"},
                                                  {"mistral", "MistralForCausalLM"},
                                                  {"qwen2", "Qwen2ForCausalLM"},
                                                  {"qwen3", "Qwen3ForCausalLM"},
                                                  {"qwen2_moe", "Qwen2MoeForCausalLM"},
                                                  {"qwen3_moe", "Qwen3MoeForCausalLM"},
                                                  {"gemma2", "Gemma2ForCausalLM"},
                                                  {"gemma3_text", "Gemma3ForCausalLM"},
                                                  {"olmo2", "Olmo2ForCausalLM"},
                                                  {"phi3", "Phi3ForCausalLM"},
                                                  {"gemma", "GemmaForCausalLM"}}};

// What transformers calls the stored type.
const char* TorchName(DType store) {
  return store == DType::kBF16 ? "bfloat16" : store == DType::kF16 ? "float16" : "float32";
}

// The base's config with all its keys in their order; only what our weights decide is changed.
Result<std::string> SavedConfig(const std::string& text, DType store) {
  RETORT_ASSIGN_OR_RETURN(const json::Document doc, json::Document::Parse(text, "config.json"));
  const json::Value root = doc.root();
  if (!root.is_object()) return InvalidArgument("config.json: must be a JSON object");
  json::Writer w(2);
  w.BeginObject();
  const std::string_view type = root["model_type"].StringOr("");
  for (const ModelClass& known : kClasses) {
    if (root["architectures"].size() > 0 || known.model_type != type) continue;
    w.Key("architectures").BeginArray().String(known.class_name).EndArray();
  }
  bool has_dtype = false;
  for (size_t i = 0; i < root.size(); ++i) {
    const std::string_view key = root.key_at(i);
    // Weights are written plain, whatever they were; an empty list of classes says nothing.
    if (key == "quantization_config" || (key == "architectures" && root[key].size() == 0)) continue;
    w.Key(key);
    if (key == "dtype" || key == "torch_dtype") {
      w.String(TorchName(store));
      has_dtype = true;
    } else {
      w.Copy(root.value_at(i));
    }
  }
  if (!has_dtype) w.Field("dtype", TorchName(store));
  return w.EndObject().Take() + "\n";
}

// Checkpoint tensors made of params: one view each, or a buffer where several params, or rows of
// one, make up a tensor.
class Items {
 public:
  Items(const graph::Graph& graph, std::span<const TensorView> params, DType store)
      : graph_(graph), params_(params), store_(store) {}

  Result<std::vector<io::SafetensorsItem>> Collect() {
    for (size_t i = 0; i < graph_.params.size(); ++i) RETORT_RETURN_IF_ERROR(AddParam(i));
    for (const auto& [name, pieces] : tensors_) RETORT_RETURN_IF_ERROR(AddTensor(name, pieces));
    return std::move(items_);
  }

 private:
  Status AddParam(size_t index) {
    const graph::Param& param = graph_.params[index];
    const TensorView& view = params_[index];
    const std::span<const int64_t> shape(view.shape.data(), static_cast<size_t>(view.ndim));
    if (view.dtype != DType::kF32 ||
        !std::equal(shape.begin(), shape.end(), param.shape.begin(), param.shape.end())) {
      return Internal("param \"" + param.name + "\": not an f32 view of its shape");
    }
    const int64_t rows = AsMatrix(param.shape).rows;
    int64_t at = 0;
    for (size_t s = 0; s < param.sources.size(); ++s) {
      const graph::Source& part = param.sources[s];
      const bool all = part.row_begin == 0 && part.row_end == 0;
      if (all && param.sources.size() > 1) {
        return Unimplemented("param \"" + param.name +
                             "\": the graph doesn't say how many rows \"" + part.checkpoint_name +
                             "\" has, so it can't be taken apart again");
      }
      const int64_t n = all ? rows : part.row_end - part.row_begin;
      tensors_[part.checkpoint_name].push_back({.param = index,
                                                .source = s,
                                                .param_begin = at,
                                                .source_begin = part.row_begin,
                                                .rows = n});
      at += n;
    }
    return OkStatus();
  }

  Status AddTensor(const std::string& name, const std::vector<Piece>& pieces) {
    if (pieces.size() > 1) return Assemble(name, pieces);
    const Piece& piece = pieces[0];
    const graph::Param& param = graph_.params[piece.param];
    const RowsCols m = AsMatrix(param.shape);
    if (piece.source_begin != 0) return Incomplete(name);
    TensorView view = params_[piece.param];
    if (piece.rows != m.rows) {
      if (view.ndim > 2) return Unimplemented("tensor \"" + name + "\": rows of a 3-D param");
      view = view.Rows(piece.param_begin, piece.param_begin + piece.rows);
    }
    if (param.sources[piece.source].transpose && view.ndim == 2) {
      std::swap(view.shape[0], view.shape[1]);
      std::swap(view.strides[0], view.strides[1]);
    }
    items_.push_back({.name = name, .view = view, .stored = store_});
    return OkStatus();
  }

  Status Assemble(const std::string& name, std::vector<Piece> pieces) {
    std::sort(pieces.begin(), pieces.end(),
              [](const Piece& a, const Piece& b) { return a.source_begin < b.source_begin; });
    const graph::Param& front = graph_.params[pieces[0].param];
    const int64_t cols = AsMatrix(front.shape).cols;
    std::vector<float>& buffer = buffers_.emplace_back();
    int64_t at = 0;
    for (const Piece& piece : pieces) {
      const graph::Param& param = graph_.params[piece.param];
      if (param.sources[piece.source].transpose || !params_[piece.param].contiguous()) {
        return Unimplemented("tensor \"" + name + "\": shared by params, transposed or padded");
      }
      if (piece.source_begin != at || AsMatrix(param.shape).cols != cols) return Incomplete(name);
      const float* from = params_[piece.param].as<float>() + piece.param_begin * cols;
      buffer.insert(buffer.end(), from, from + piece.rows * cols);
      at += piece.rows;
    }
    const auto view = front.shape.size() == 1
                          ? TensorView::Contiguous(buffer.data(), DType::kF32, {at})
                          : TensorView::Contiguous(buffer.data(), DType::kF32, {at, cols});
    items_.push_back({.name = name, .view = view, .stored = store_});
    return OkStatus();
  }

  static Status Incomplete(const std::string& name) {
    return FailedPrecondition("tensor \"" + name +
                              "\": the graph's params don't cover its rows, each once, from 0 on");
  }

  const graph::Graph& graph_;
  std::span<const TensorView> params_;
  DType store_;
  std::map<std::string, std::vector<Piece>> tensors_;
  std::vector<io::SafetensorsItem> items_;
  std::vector<std::vector<float>> buffers_;
};

}  // namespace

ModelTexts TextsOf(const Source& source) {
  return {.config_json = source.config_text(),
          .tokenizer_json = source.tokenizer_json(),
          .tokenizer_config_json = source.tokenizer_config_json(),
          .generation_config_json = source.generation_config_json(),
          .chat_template = source.chat_template()};
}

Result<std::vector<io::FileDigest>> WriteModelFolder(io::FileSystem& fs, const std::string& folder,
                                                     const ModelTexts& texts,
                                                     const graph::Graph& graph,
                                                     std::span<const TensorView> params,
                                                     DType store) {
  if (params.size() != graph.params.size()) {
    return Internal(folder + ": " + std::to_string(params.size()) + " views for " +
                    std::to_string(graph.params.size()) + " params");
  }
  RETORT_ASSIGN_OR_RETURN(const std::string config, SavedConfig(texts.config_json, store));
  Items items(graph, params, store);  // owns what was assembled: must outlive the writing
  RETORT_ASSIGN_OR_RETURN(std::vector<io::SafetensorsItem> list, items.Collect());
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(folder));
  std::vector<io::FileDigest> digests;
  const auto write_text = [&](const char* name, const std::string& text) -> Status {
    if (text.empty()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(io::FileDigest digest,
                            io::DurableWrite(fs, io::Join(folder, name), text));
    digests.push_back(std::move(digest));
    return OkStatus();
  };
  RETORT_RETURN_IF_ERROR(write_text("config.json", config));
  RETORT_RETURN_IF_ERROR(write_text("generation_config.json", texts.generation_config_json));
  RETORT_RETURN_IF_ERROR(write_text("tokenizer.json", texts.tokenizer_json));
  RETORT_RETURN_IF_ERROR(write_text("tokenizer_config.json", texts.tokenizer_config_json));
  RETORT_RETURN_IF_ERROR(write_text("chat_template.jinja", texts.chat_template));
  RETORT_ASSIGN_OR_RETURN(
      io::FileDigest weights,
      io::WriteSafetensors(fs, io::Join(folder, "model.safetensors"), std::move(list)));
  digests.push_back(std::move(weights));
  return digests;
}

}  // namespace retort::model
