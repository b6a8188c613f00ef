// A model in an HF folder: safetensors beside config.json and the tokenizer's files.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/io/filesystem.h"
#include "core/io/safetensors.h"
#include "core/model/files.h"

namespace retort::model {
namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kTokenizer = "tokenizer.json";
constexpr const char* kTokenizerConfig = "tokenizer_config.json";
constexpr const char* kGenerationConfig = "generation_config.json";
constexpr const char* kChatTemplate = "chat_template.jinja";

class HfFolder final : public SourceBase {
 public:
  HfFolder(std::string path, FolderTexts texts, json::Document config, io::Safetensors weights)
      : SourceBase(std::move(path), std::move(texts), std::move(config)),
        weights_(std::move(weights)) {
    for (const io::SafetensorsEntry& entry : weights_.entries()) {
      tensors_.push_back({.name = entry.name,
                          .shape = entry.shape,
                          .storage = entry.dtype,
                          .bytes = entry.end - entry.begin});
    }
  }

  bool is_gguf() const override { return false; }

 protected:
  Status Read(const TensorInfo& tensor, int64_t begin, int64_t end,
              const TensorView& out) const override {
    return io::CastFloats(tensor.storage, RowBytes(tensor, begin, end).data(),
                          begin == end ? 0 : out.numel(), out.dtype, out.data);
  }

  std::optional<DType> StoredType(const TensorInfo& tensor) const override {
    if (tensor.storage == "F32") return DType::kF32;
    if (tensor.storage == "F16") return DType::kF16;
    if (tensor.storage == "BF16") return DType::kBF16;
    return std::nullopt;
  }

  void ReadBytes(const TensorInfo& tensor, int64_t begin, int64_t end, char* out) const override {
    const std::string_view rows = RowBytes(tensor, begin, end);
    std::copy(rows.begin(), rows.end(), out);
  }

  void ReleaseBytes(const TensorInfo& tensor, int64_t begin, int64_t end) const override {
    weights_.Release(*weights_.Find(tensor.name), RowBytes(tensor, begin, end));
  }

  std::vector<std::string> files() const override {
    std::vector<std::string> paths = weights_.files();
    for (const char* name :
         {kConfig, kTokenizer, kTokenizerConfig, kGenerationConfig, kChatTemplate}) {
      const std::string file = io::Join(path(), name);
      if (io::RealFileSystem().Exists(file)) paths.push_back(file);
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }

 private:
  std::string_view RowBytes(const TensorInfo& tensor, int64_t begin, int64_t end) const {
    const std::string_view bytes = weights_.bytes(*weights_.Find(tensor.name));
    const int64_t rows = RowCount(tensor.shape);
    const uint64_t each = rows == 0 ? 0 : bytes.size() / static_cast<uint64_t>(rows);
    return bytes.substr(static_cast<uint64_t>(begin) * each,
                        static_cast<uint64_t>(end - begin) * each);
  }

  io::Safetensors weights_;
};

// The file's text, "" if there is none.
Result<std::string> ReadSidecar(const std::string& folder, const char* name, uint64_t limit) {
  Result<std::string> text = io::RealFileSystem().Read(io::Join(folder, name), limit);
  if (!text.ok() && text.status().code() == Code::kNotFound) return std::string();
  return text;
}

// tokenizer_config.json's chat_template: a text, or a list of named ones with a "default".
Result<std::string> TemplateOf(const std::string& tokenizer_config, const std::string& what) {
  if (tokenizer_config.empty()) return std::string();
  RETORT_ASSIGN_OR_RETURN(
      const json::Document doc,
      json::Document::Parse(tokenizer_config, what, {.max_bytes = kMaxTokenizerBytes}));
  const json::Value value = doc.root()["chat_template"];
  for (size_t i = 0; value.is_array() && i < value.size(); ++i) {
    if (value[i]["name"].StringOr("") == "default") {
      return std::string(value[i]["template"].StringOr(""));
    }
  }
  return std::string(value.StringOr(""));
}

// What a folder that is no model holds, in a few words.
Status NotAModel(const std::string& path) {
  RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, io::RealFileSystem().List(path));
  std::string listed;
  bool adapter = false, gguf = false;
  constexpr size_t kShown = 8;
  for (size_t i = 0; i < names.size(); ++i) {
    adapter |= names[i] == "adapter_config.json";
    gguf |= names[i].ends_with(".gguf");
    if (i < kShown) listed.append(i > 0 ? ", " : "").append(names[i]);
  }
  if (names.size() > kShown) listed.append(", ...");
  return InvalidArgument(path + ": not a model: there is no config.json. It holds: " +
                         (names.empty() ? "nothing" : listed) +
                         (adapter ? ". An adapter folder needs its base model" : "") +
                         (gguf ? ". Name the .gguf file itself" : ""));
}

}  // namespace

Result<FolderTexts> ReadFolderTexts(const std::string& path) {
  FolderTexts texts;
  RETORT_ASSIGN_OR_RETURN(texts.config, ReadSidecar(path, kConfig, kMaxConfigBytes));
  RETORT_ASSIGN_OR_RETURN(texts.tokenizer, ReadSidecar(path, kTokenizer, kMaxTokenizerBytes));
  RETORT_ASSIGN_OR_RETURN(texts.tokenizer_config,
                          ReadSidecar(path, kTokenizerConfig, kMaxTokenizerBytes));
  RETORT_ASSIGN_OR_RETURN(texts.generation_config,
                          ReadSidecar(path, kGenerationConfig, kMaxConfigBytes));
  RETORT_ASSIGN_OR_RETURN(texts.chat_template, ReadSidecar(path, kChatTemplate, kMaxConfigBytes));
  if (texts.chat_template.empty()) {
    RETORT_ASSIGN_OR_RETURN(texts.chat_template,
                            TemplateOf(texts.tokenizer_config, io::Join(path, kTokenizerConfig)));
  }
  return texts;
}

Result<std::unique_ptr<Source>> OpenHfFolder(const std::string& path) {
  RETORT_ASSIGN_OR_RETURN(FolderTexts texts, ReadFolderTexts(path));
  // A folder of a tokenizer alone, or of a config without weights, is good for some commands.
  if (texts.config.empty() && texts.tokenizer.empty()) return NotAModel(path);
  RETORT_ASSIGN_OR_RETURN(
      json::Document config,
      json::Document::Parse(texts.config.empty() ? "{}" : texts.config, io::Join(path, kConfig)));
  if (!config.root().is_object()) {
    return InvalidArgument(io::Join(path, kConfig) + ": must be a JSON object");
  }
  Result<io::Safetensors> weights = io::Safetensors::OpenFolder(path);
  if (!weights.ok()) {
    if (weights.status().code() != Code::kNotFound ||
        io::RealFileSystem().Exists(io::Join(path, "model.safetensors.index.json"))) {
      return weights.status();
    }
    weights = io::Safetensors();
  }
  return std::unique_ptr<Source>(std::make_unique<HfFolder>(
      path, std::move(texts), std::move(config), std::move(weights).value()));
}

}  // namespace retort::model
