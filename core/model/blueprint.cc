// SPDX-License-Identifier: Apache-2.0
#include "core/model/blueprint.h"

#include <utility>

#include "core/base/hash.h"
#include "core/io/filesystem.h"
#include "core/model/files.h"
#include "core/model/tokenizer.h"

namespace retort::model {
namespace {

class BlueprintSource final : public SourceBase {
 public:
  BlueprintSource(const std::string& name, FolderTexts texts, json::Document config, uint64_t seed)
      : SourceBase(name, std::move(texts), std::move(config)), seed_(seed) {}

  bool is_gguf() const override { return false; }
  std::optional<uint64_t> init_seed() const override { return seed_; }

  Result<std::string> Fingerprint() const override {
    Hasher hasher;
    for (const std::string& text : {config_text(), tokenizer_json(), tokenizer_config_json(),
                                    generation_config_json(), chat_template()}) {
      hasher.UpdateSized(text);
    }
    hasher.UpdateSized(std::to_string(seed_));
    return hasher.Hex();
  }

 protected:
  Status Read(const TensorInfo&, int64_t, int64_t, const TensorView&) const override {
    return Internal(path() + " has no tensors");
  }
  void ReadBytes(const TensorInfo&, int64_t, int64_t, char*) const override {}
  void ReleaseBytes(const TensorInfo&, int64_t, int64_t) const override {}
  std::vector<std::string> files() const override { return {}; }

 private:
  uint64_t seed_;
};

Result<FolderTexts> TokenizerTexts(const std::string& path) {
  const Result<io::FileInfo> info = io::RealFileSystem().Stat(path);
  if (!info.ok()) return info.status().WithContext("tokenizer");
  if (info->kind == io::FileKind::kFolder) return ReadFolderTexts(path);
  FolderTexts texts;
  RETORT_ASSIGN_OR_RETURN(texts.tokenizer, io::RealFileSystem().Read(path, kMaxTokenizerBytes));
  return texts;
}

// The config with a vocab_size that holds every token.
Result<std::string> WithVocabulary(const Blueprint& blueprint, int32_t vocab_size) {
  RETORT_ASSIGN_OR_RETURN(const json::Document config,
                          json::Document::Parse(blueprint.config, "config"));
  const json::Value root = config.root();
  if (!root.is_object()) return InvalidArgument("config: must be a JSON object");
  if (root["model_type"].StringOr("").empty()) {
    return InvalidArgument("config: has no model_type; it takes the keys of a config.json");
  }
  if (root["vocab_size"]) {
    RETORT_ASSIGN_OR_RETURN(const int64_t given, root["vocab_size"].AsInt());
    if (given >= vocab_size) return blueprint.config;
    return InvalidArgument("config: vocab_size is " + std::to_string(given) + ", but " +
                           blueprint.tokenizer + " has " + std::to_string(vocab_size) +
                           " tokens; leave it out, or raise it");
  }
  json::Writer writer(2);
  writer.BeginObject();
  for (size_t i = 0; i < root.size(); ++i) writer.Key(root.key_at(i)).Raw(root.value_at(i).Dump());
  return writer.Field("vocab_size", int64_t{vocab_size}).EndObject().Take();
}

Result<std::unique_ptr<Source>> Open(const Blueprint& blueprint, const std::string& name) {
  RETORT_ASSIGN_OR_RETURN(FolderTexts texts, TokenizerTexts(blueprint.tokenizer));
  if (texts.tokenizer.empty()) {
    return InvalidArgument("tokenizer: there is no tokenizer.json in " + blueprint.tokenizer);
  }
  RETORT_ASSIGN_OR_RETURN(
      const auto tokenizer,
      text::Tokenizer::FromJson(texts.tokenizer, texts.tokenizer_config, blueprint.tokenizer));
  RETORT_ASSIGN_OR_RETURN(texts.config, WithVocabulary(blueprint, tokenizer->vocab_size()));
  RETORT_ASSIGN_OR_RETURN(json::Document config, json::Document::Parse(texts.config, name));
  return std::unique_ptr<Source>(std::make_unique<BlueprintSource>(
      name, std::move(texts), std::move(config), blueprint.init_seed));
}

}  // namespace

Result<std::unique_ptr<Source>> OpenBlueprint(const Blueprint& blueprint, const std::string& name) {
  Result<std::unique_ptr<Source>> source = Open(blueprint, name);
  return source.ok() ? std::move(source) : source.status().WithContext(name);
}

}  // namespace retort::model
