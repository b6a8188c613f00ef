// Saving: params under their checkpoint names, and the text files of an HF folder.
// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "core/io/safetensors.h"
#include "core/json/json.h"
#include "core/model/checkpoint_items.h"
#include "core/model/files.h"
#include "core/model/params.h"
#include "core/model/save.h"

namespace retort::model {
namespace {

struct ModelClass {
  std::string_view model_type, class_name;
};
constexpr std::array<ModelClass, 12> kClasses = {{{"llama", "LlamaForCausalLM"},
                                                  {"mistral", "MistralForCausalLM"},
                                                  {"qwen2", "Qwen2ForCausalLM"},
                                                  {"qwen3", "Qwen3ForCausalLM"},
                                                  {"qwen2_moe", "Qwen2MoeForCausalLM"},
                                                  {"qwen3_moe", "Qwen3MoeForCausalLM"},
                                                  {"mixtral", "MixtralForCausalLM"},
                                                  {"gemma2", "Gemma2ForCausalLM"},
                                                  {"gemma3_text", "Gemma3ForCausalLM"},
                                                  {"olmo2", "Olmo2ForCausalLM"},
                                                  {"phi3", "Phi3ForCausalLM"},
                                                  {"gemma", "GemmaForCausalLM"}}};

// What transformers calls the stored type.
const char* TorchName(DType store) {
  return store == DType::kBF16 ? "bfloat16" : store == DType::kF16 ? "float16" : "float32";
}

// The class that transformers opens the folder with; "": nobody knows.
std::string ClassName(const json::Value& config, bool reward_model) {
  std::string name(config["architectures"][0].StringOr(""));
  const std::string_view type = config["model_type"].StringOr("");
  for (const ModelClass& known : kClasses) {
    if (name.empty() && known.model_type == type) name = known.class_name;
  }
  if (!reward_model) return name;
  const size_t use = name.rfind("For");
  return use == std::string::npos ? "" : name.substr(0, use) + "ForSequenceClassification";
}

// Labels say how many outputs a head has: a reward model has one, without a name.
bool SaysLabels(std::string_view key) {
  return key == "num_labels" || key == "id2label" || key == "label2id";
}

}  // namespace

Result<std::string> SavedConfig(const std::string& text, DType store, bool reward_model) {
  RETORT_ASSIGN_OR_RETURN(const json::Document doc, json::Document::Parse(text, "config.json"));
  const json::Value root = doc.root();
  if (!root.is_object()) return InvalidArgument("config.json: must be a JSON object");
  json::Writer w(2);
  w.BeginObject();
  const bool given = root["architectures"].size() > 0;
  const std::string class_name = ClassName(root, reward_model);
  if ((reward_model || !given) && !class_name.empty()) {
    w.Key("architectures").BeginArray().String(class_name).EndArray();
  }
  if (reward_model) w.Field("num_labels", 1);
  bool has_dtype = false;
  for (size_t i = 0; i < root.size(); ++i) {
    const std::string_view key = root.key_at(i);
    // Weights are written plain, whatever they were; an empty list of classes says nothing.
    if (key == "quantization_config") continue;
    if (key == "architectures" && (reward_model || !given)) continue;
    if (reward_model && SaysLabels(key)) continue;
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

ModelTexts TextsOf(const Source& source) {
  return {.config_json = source.config_text(),
          .tokenizer_json = source.tokenizer_json(),
          .tokenizer_config_json = source.tokenizer_config_json(),
          .generation_config_json = source.generation_config_json(),
          .chat_template = source.chat_template()};
}

Status WriteTexts(io::FileSystem& fs, const std::string& folder, const ModelTexts& texts,
                  const std::string& config, std::vector<io::FileDigest>* digests) {
  const auto write = [&](const char* name, const std::string& text) -> Status {
    if (text.empty()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(io::FileDigest digest,
                            io::DurableWrite(fs, io::Join(folder, name), text));
    digests->push_back(std::move(digest));
    return OkStatus();
  };
  RETORT_RETURN_IF_ERROR(write("config.json", config));
  RETORT_RETURN_IF_ERROR(write("generation_config.json", texts.generation_config_json));
  RETORT_RETURN_IF_ERROR(write("tokenizer.json", texts.tokenizer_json));
  RETORT_RETURN_IF_ERROR(write("tokenizer_config.json", texts.tokenizer_config_json));
  return write("chat_template.jinja", texts.chat_template);
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
  RETORT_ASSIGN_OR_RETURN(const std::string config,
                          SavedConfig(texts.config_json, store, !graph.has_lm_head));
  // Owns what was assembled: must outlive the writing.
  CheckpointItems items(graph, params, store);
  RETORT_ASSIGN_OR_RETURN(std::vector<io::SafetensorsItem> list, items.Collect());
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(folder));
  std::vector<io::FileDigest> digests;
  RETORT_RETURN_IF_ERROR(WriteTexts(fs, folder, texts, config, &digests));
  RETORT_ASSIGN_OR_RETURN(
      io::FileDigest weights,
      io::WriteSafetensors(fs, io::Join(folder, "model.safetensors"), std::move(list)));
  digests.push_back(std::move(weights));
  return digests;
}

}  // namespace retort::model
