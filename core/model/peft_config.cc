// Reading adapter folders: the config first, then which modules the weights are of.
// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <map>

#include "core/io/safetensors.h"
#include "core/json/json.h"
#include "core/model/files.h"
#include "core/model/peft.h"
#include "core/model/peft_names.h"
#include "core/text/regex.h"

namespace retort::model {
namespace {

// A key of PEFT's that changes what the adapter computes, and what it is about.
struct Refused {
  const char* key;
  const char* what;
};
constexpr std::array<Refused, 14> kRefused = {{{"use_dora", "DoRA"},
                                               {"fan_in_fan_out", "transposed weights"},
                                               {"lora_bias", "biases of B"},
                                               {"use_qalora", "QALoRA"},
                                               {"use_bdlora", "block-diagonal LoRA"},
                                               {"layer_replication", "replicated layers"},
                                               {"trainable_token_indices", "trained tokens"},
                                               {"target_parameters", "LoRA of bare parameters"},
                                               {"alora_invocation_tokens", "activated LoRA"},
                                               {"arrow_config", "Arrow routing"},
                                               {"kasa_config", "KaSA"},
                                               {"monteclora_config", "MonteCLoRA"},
                                               {"velora_config", "VeLoRA"},
                                               {"megatron_config", "Megatron layers"}}};

// false, null, "", [] and {} say that a feature is off.
bool IsSet(const json::Value& value) {
  switch (value.type()) {
    case json::Type::kNull: return false;
    case json::Type::kBool: return value.BoolOr(false);
    case json::Type::kString: return !value.StringOr("").empty();
    case json::Type::kNumber: return true;
    default: return value.size() > 0;
  }
}

// Ways to start that leave the base as it is; the others come with a changed base.
bool KeepsBase(const json::Value& init) {
  if (!init || init.is_null() || init.is_bool()) return true;
  const std::string_view name = init.StringOr("?");
  return name == "gaussian" || name == "eva" || name == "orthogonal";
}

Status CheckKind(const json::Value& root, const std::string& path) {
  const std::string_view type = root["peft_type"].StringOr("");
  if (type != "LORA") {
    return Unimplemented(path + ": peft_type is \"" + std::string(type) +
                         "\"; only LORA adapters are supported");
  }
  for (const Refused& refused : kRefused) {
    if (!IsSet(root[refused.key])) continue;
    return Unimplemented(path + ": " + refused.key + " is " + root[refused.key].Dump() + ": " +
                         refused.what + " can't be loaded; merge the adapter with peft instead");
  }
  // What peft writes for every ...ForSequenceClassification; of these, only score is there.
  const json::Value whole = root["modules_to_save"];
  for (size_t i = 0; i < whole.size(); ++i) {
    const std::string_view module = whole[i].StringOr("?");
    if (module == "score" || module == "classifier") continue;
    return Unimplemented(path + ": modules_to_save has \"" + std::string(module) +
                         "\": of modules trained as a whole only the value head, score, can be "
                         "loaded; merge the adapter with peft instead");
  }
  if (const std::string_view bias = root["bias"].StringOr("none"); bias != "none") {
    return Unimplemented(path + ": bias is \"" + std::string(bias) +
                         "\"; only \"none\" is supported");
  }
  if (!KeepsBase(root["init_lora_weights"])) {
    return Unimplemented(path + ": init_lora_weights " + root["init_lora_weights"].Dump() +
                         " changes the base's weights; convert the adapter with peft first");
  }
  return OkStatus();
}

// A reading that may be absent or null; the error names file and key.
template <class T>
Status Read(const json::Value& value, const std::string& where,
            Result<T> (json::Value::*as)() const, T* out) {
  if (value.is_null()) return OkStatus();
  Result<T> read = (value.*as)();
  if (!read.ok()) return InvalidArgument(where + ": " + read.status().message());
  *out = *read;
  return OkStatus();
}

// {"key": value} with PEFT's keys: regular expressions over the end of a module's name.
template <class T>
class Pattern {
 public:
  Status ReadFrom(const json::Value& object, const std::string& where,
                  Result<T> (json::Value::*as)() const) {
    if (object.is_null()) return OkStatus();
    if (!object.is_object()) return InvalidArgument(where + " must be an object");
    for (size_t i = 0; i < object.size(); ++i) {
      const std::string key(object.key_at(i));
      T value{};
      RETORT_RETURN_IF_ERROR(Read(object.value_at(i), where + "." + key, as, &value));
      Result<text::Regex> regex = text::Regex::Compile("^(?:.*\\.)?(?:" + key + ")$");
      if (!regex.ok()) return regex.status().WithContext(where);
      entries_.emplace_back(std::move(regex).value(), value);
    }
    return OkStatus();
  }

  // Of the first key that matches, as PEFT takes it.
  Result<T> Of(const std::string& module, T fallback) const {
    for (const auto& [regex, value] : entries_) {
      std::vector<text::Range> matches;
      RETORT_RETURN_IF_ERROR(regex.FindAll(module, text::Deadline(module.size()), &matches));
      if (!matches.empty()) return value;
    }
    return fallback;
  }

 private:
  std::vector<std::pair<text::Regex, T>> entries_;
};

struct Config {
  PeftConfig peft;
  Pattern<int64_t> ranks;
  Pattern<double> alphas;
};

Result<Config> ReadConfig(const std::string& folder) {
  const std::string path = io::Join(folder, kPeftConfigName);
  RETORT_ASSIGN_OR_RETURN(const std::string text, io::RealFileSystem().Read(path, kMaxConfigBytes));
  RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(text, path));
  const json::Value root = document.root();
  if (!root.is_object()) return InvalidArgument(path + ": must be a JSON object");
  RETORT_RETURN_IF_ERROR(CheckKind(root, path));
  Config config;
  graph::LoraSpec& lora = config.peft.lora;
  const auto at = [&](const char* key) { return path + ": " + key; };
  RETORT_RETURN_IF_ERROR(Read(root["r"], at("r"), &json::Value::AsInt, &lora.r));
  RETORT_RETURN_IF_ERROR(
      Read(root["lora_alpha"], at("lora_alpha"), &json::Value::AsDouble, &lora.alpha));
  RETORT_RETURN_IF_ERROR(
      Read(root["lora_dropout"], at("lora_dropout"), &json::Value::AsDouble, &lora.dropout));
  RETORT_RETURN_IF_ERROR(
      Read(root["use_rslora"], at("use_rslora"), &json::Value::AsBool, &lora.rslora));
  RETORT_RETURN_IF_ERROR(
      config.ranks.ReadFrom(root["rank_pattern"], at("rank_pattern"), &json::Value::AsInt));
  RETORT_RETURN_IF_ERROR(
      config.alphas.ReadFrom(root["alpha_pattern"], at("alpha_pattern"), &json::Value::AsDouble));
  config.peft.base = std::string(root["base_model_name_or_path"].StringOr(""));
  config.peft.reward_model = root["task_type"].StringOr("") == "SEQ_CLS";
  return config;
}

// Why a tensor is none of ours; "": no module is named by it.
std::string ForeignTensor(const std::string& name) {
  if (name.find(".lora_embedding_") != std::string::npos) return "an adapter of an embedding";
  if (name.find(".lora_magnitude_vector") != std::string::npos) return "DoRA";
  if (name.ends_with(".lora_B.bias")) return "a bias of B";
  if (name.find(".lora_") == std::string::npos) return "a weight trained as a whole";
  return "no name of a LoRA weight of a causal language model";
}

// Rank of A by module, each with a B of the same rank.
Result<std::map<std::string, int64_t>> ReadRanks(const io::Safetensors& file,
                                                 const std::string& path) {
  std::map<std::string, int64_t> ranks;
  for (const io::SafetensorsEntry& entry : file.entries()) {
    if (entry.name == PeftHeadName()) continue;
    const std::optional<PeftName> name = ParsePeftName(entry.name);
    if (!name) {
      return Unimplemented(path + ": \"" + entry.name + "\": " + ForeignTensor(entry.name) +
                           "; this can't be loaded");
    }
    if (entry.shape.size() != 2) {
      return DataLoss(path + ": \"" + entry.name + "\" has shape " + ShapeText(entry.shape) +
                      "; it must have two dimensions");
    }
    const int64_t r = name->is_a ? entry.shape[0] : entry.shape[1];
    const auto [at, added] = ranks.emplace(name->module, r);
    const std::string pair = PeftTensorName(name->module, !name->is_a);
    if (file.Find(pair) == nullptr) {
      return DataLoss(path + ": \"" + entry.name + "\" is there, but not \"" + pair + "\"");
    }
    if (!added && at->second != r) {
      return DataLoss(path + ": A and B of \"" + name->module + "\" differ in rank: " +
                      std::to_string(at->second) + " and " + std::to_string(r));
    }
  }
  if (ranks.empty()) return DataLoss(path + ": there are no weights");
  return ranks;
}

// Whether there is a value head; it gives one number. A reward model's must be there.
Result<bool> FindHead(const io::Safetensors& file, const std::string& path, bool needed) {
  const io::SafetensorsEntry* head = file.Find(PeftHeadName());
  if (head == nullptr && needed) {
    return DataLoss(path + ": task_type is SEQ_CLS, but \"" + PeftHeadName() + "\" is not there");
  }
  if (head == nullptr) return false;
  if (head->shape.size() == 2 && head->shape[0] == 1) return true;
  return Unimplemented(path + ": \"" + head->name + "\" has shape " + ShapeText(head->shape) +
                       "; a value head has one row: one label, no classes");
}

}  // namespace

Result<io::Safetensors> OpenPeftWeights(const std::string& folder) {
  io::FileSystem& fs = io::RealFileSystem();
  const std::string path = io::Join(folder, kPeftWeightsName);
  if (!fs.Exists(path) && fs.Exists(io::Join(folder, "adapter_model.bin"))) {
    return Unimplemented(folder +
                         ": adapter_model.bin is a pickle, which is never read; save the "
                         "adapter as safetensors");
  }
  return io::Safetensors::Open(path);
}

bool IsAdapterFolder(const std::string& path) {
  io::FileSystem& fs = io::RealFileSystem();
  return fs.Exists(io::Join(path, kPeftConfigName)) && !fs.Exists(io::Join(path, "config.json"));
}

std::vector<std::string> AdapterFiles(const std::string& folder) {
  return {io::Join(folder, kPeftConfigName), io::Join(folder, kPeftWeightsName)};
}

Result<PeftConfig> ReadPeftConfig(const std::string& folder) {
  RETORT_ASSIGN_OR_RETURN(Config config, ReadConfig(folder));
  RETORT_ASSIGN_OR_RETURN(const io::Safetensors file, OpenPeftWeights(folder));
  const std::string path = io::Join(folder, kPeftWeightsName);
  RETORT_ASSIGN_OR_RETURN(const auto ranks, ReadRanks(file, path));
  RETORT_ASSIGN_OR_RETURN(config.peft.value_head, FindHead(file, path, config.peft.reward_model));
  graph::LoraSpec& lora = config.peft.lora;
  lora.targets.clear();
  for (const auto& [module, rank] : ranks) {
    RETORT_ASSIGN_OR_RETURN(const int64_t r, config.ranks.Of(module, lora.r));
    RETORT_ASSIGN_OR_RETURN(const double alpha, config.alphas.Of(module, lora.alpha));
    if (r != rank) {
      return DataLoss(path + ": \"" + module + "\" has rank " + std::to_string(rank) + ", " +
                      kPeftConfigName + " says " + std::to_string(r));
    }
    lora.targets.push_back(module);
    if (r != lora.r) lora.rank_pattern[module] = r;
    if (alpha != lora.alpha) lora.alpha_pattern[module] = alpha;
  }
  return std::move(config.peft);
}

Result<std::string> FindAdapterBase(const std::string& folder, const PeftConfig& config) {
  const std::string where = io::Join(folder, kPeftConfigName) + ": base_model_name_or_path";
  if (config.base.empty()) {
    return NotFound(where + " is empty; name the base model beside the adapter");
  }
  io::FileSystem& fs = io::RealFileSystem();
  if (config.base[0] != '/') {
    const std::string beside = io::Absolute(io::Join(folder, config.base));
    if (fs.Exists(beside)) return beside;
  }
  if (const std::string path = io::Absolute(config.base); fs.Exists(path)) return path;
  return NotFound(where + " is \"" + config.base + "\", which is no file or folder" +
                  (config.base[0] == '/' ? "" : " here or beside the adapter") +
                  "; name the base model beside the adapter");
}

}  // namespace retort::model
