// SPDX-License-Identifier: Apache-2.0
#include "core/text/post_processor.h"

#include <string>

namespace retort::text {
namespace {

constexpr int kMaxDepth = 8;  // nested Sequences

struct Reader {
  std::string where;
  int32_t vocab_size;
  PostProcessor result;

  Status SpecialIds(const json::Value& processor, std::string_view name,
                    std::vector<int32_t>* ids) {
    const json::Value list = processor["special_tokens"][name]["ids"];
    if (!list.is_array()) {
      return InvalidArgument(where + "TemplateProcessing: special_tokens has no ids of '" +
                             std::string(name) + "'");
    }
    for (size_t i = 0; i < list.size(); ++i) {
      const auto id = list[i].AsInt();
      if (!id.ok() || *id < 0 || *id >= vocab_size) {
        return InvalidArgument(where + "TemplateProcessing: id " + list[i].Dump() + " of '" +
                               std::string(name) + "' is outside the vocabulary of " +
                               std::to_string(vocab_size));
      }
      ids->push_back(static_cast<int32_t>(*id));
    }
    return OkStatus();
  }

  Status Template(const json::Value& processor) {
    const json::Value parts = processor["single"];
    std::vector<int32_t> before, after;
    int sequences = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (const json::Value special = parts[i]["SpecialToken"]) {
        RETORT_RETURN_IF_ERROR(
            SpecialIds(processor, special["id"].StringOr(""), sequences == 0 ? &before : &after));
      } else if (parts[i]["Sequence"]["id"].StringOr("") == "A") {
        ++sequences;
      } else {
        return Unimplemented(where + "TemplateProcessing: part " + parts[i].Dump().substr(0, 80) +
                             " of 'single' is not supported");
      }
    }
    if (sequences != 1) {
      return InvalidArgument(where + "TemplateProcessing: 'single' must hold the sequence A once");
    }
    result.prefix.insert(result.prefix.begin(), before.begin(), before.end());
    result.suffix.insert(result.suffix.end(), after.begin(), after.end());
    return OkStatus();
  }

  Status Add(const json::Value& value, int depth) {
    const std::string_view type = value["type"].StringOr("");
    if (type == "ByteLevel") return OkStatus();
    if (type == "TemplateProcessing") return Template(value);
    if (type != "Sequence") {
      return Unimplemented(where + "'" + std::string(type) +
                           "' is not supported (supported: ByteLevel, TemplateProcessing, "
                           "Sequence)");
    }
    const json::Value parts = value["processors"];
    if (!parts.is_array() || depth >= kMaxDepth) {
      return InvalidArgument(where +
                             "'Sequence': 'processors' must be a list, nested at most 8 deep");
    }
    for (size_t i = 0; i < parts.size(); ++i) RETORT_RETURN_IF_ERROR(Add(parts[i], depth + 1));
    return OkStatus();
  }
};

}  // namespace

Result<PostProcessor> PostProcessor::FromJson(const json::Value& value, int32_t vocab_size,
                                              std::string_view what) {
  Reader reader{std::string(what) + ": tokenizer.json: post_processor ", vocab_size, {}};
  if (value && !value.is_null()) RETORT_RETURN_IF_ERROR(reader.Add(value, 0));
  return std::move(reader.result);
}

}  // namespace retort::text
