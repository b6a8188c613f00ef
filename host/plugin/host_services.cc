// retort.host.json: the host's JSON reader behind the C table. A document is flattened at parse
// time, children after their parents and next to each other, so that a node is a plain number and
// documents are immutable afterwards.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/host_services.h"

#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/plugin_call.h"
#include "core/base/status.h"
#include "core/json/json.h"
#include "host/library/guard.h"
#include "retort/abi/entry.h"

struct retort_json_document {
  struct Node {
    retort::json::Value value;
    uint32_t first_child = 0;
  };
  explicit retort_json_document(retort::json::Document parsed) : document(std::move(parsed)) {
    nodes.push_back({document.root()});
    for (size_t i = 0; i < nodes.size(); ++i) {
      const retort::json::Value parent = nodes[i].value;
      nodes[i].first_child = static_cast<uint32_t>(nodes.size());
      for (size_t c = 0; c < parent.size(); ++c) nodes.push_back({parent.value_at(c)});
    }
  }
  retort::json::Document document;
  std::vector<Node> nodes;
};

namespace retort::host {
namespace {

constexpr size_t kErrorBytes = 256;

void CopyError(std::string_view text, char* error) {
  if (error == nullptr) return;
  const size_t n = std::min(text.size(), kErrorBytes - 1);
  std::memcpy(error, text.data(), n);
  error[n] = '\0';
}

retort_status Parse(void*, retort_str json, retort_json_document** out, char* error) {
  const Status status = Guard([&]() -> Status {
    // A model's config, a sample's record: larger than what users write by hand.
    const json::ParseOptions limits{.max_bytes = uint64_t{64} << 20};
    RETORT_ASSIGN_OR_RETURN(json::Document document,
                            json::Document::Parse(ToView(json), "JSON", limits));
    *out = std::make_unique<retort_json_document>(std::move(document)).release();
    return OkStatus();
  });
  if (!status.ok()) CopyError(status.message(), error);
  return static_cast<retort_status>(status.code());
}

void Free(void*, retort_json_document* document) {
  const std::unique_ptr<retort_json_document> owner(document);
}

// Readings of a number as it is written, without memory: the plugin's frames are below, and an
// error text could throw into them. Too large never gets past the parser; too small is 0.
double NumberOf(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{}) return number;
  return text.starts_with('-') ? -0.0 : 0.0;
}

bool IsWhole(std::string_view text, int64_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc{} && end == text.data() + text.size();
}

void Fill(const retort_json_document& document, uint32_t node, retort_json_value* out) {
  const json::Value value = document.nodes[node].value;
  *out = {};
  out->node = node;
  out->type = static_cast<uint32_t>(value.type());
  out->size = value.size();
  if (value.is_bool()) out->integer = value.BoolOr(false) ? 1 : 0;
  if (value.is_string()) out->text = ToStr(value.StringOr(""));
  if (!value.is_number()) return;
  out->text = ToStr(value.number_text());
  out->number = NumberOf(value.number_text());
  int64_t integer = 0;
  if (const std::string_view text = value.number_text(); IsWhole(text, &integer)) {
    out->integer = integer;
    out->flags = RETORT_JSON_IS_INTEGER;
  }
}

retort_status GetValue(void*, const retort_json_document* document, uint32_t node,
                       retort_json_value* out) {
  if (node >= document->nodes.size()) return RETORT_OUT_OF_RANGE;
  Fill(*document, node, out);
  return RETORT_OK;
}

retort_status GetMember(void*, const retort_json_document* document, uint32_t node, retort_str key,
                        retort_json_value* out) {
  if (node >= document->nodes.size()) return RETORT_OUT_OF_RANGE;
  const retort_json_document::Node& object = document->nodes[node];
  if (!object.value.is_object()) return RETORT_NOT_FOUND;
  for (size_t i = 0; i < object.value.size(); ++i) {
    if (object.value.key_at(i) != ToView(key)) continue;
    Fill(*document, object.first_child + static_cast<uint32_t>(i), out);
    return RETORT_OK;
  }
  return RETORT_NOT_FOUND;
}

retort_status GetElement(void*, const retort_json_document* document, uint32_t node, uint64_t index,
                         retort_str* key, retort_json_value* out) {
  if (node >= document->nodes.size()) return RETORT_OUT_OF_RANGE;
  const retort_json_document::Node& parent = document->nodes[node];
  if (index >= parent.value.size()) return RETORT_OUT_OF_RANGE;
  if (key != nullptr) *key = ToStr(parent.value.key_at(index));
  Fill(*document, parent.first_child + static_cast<uint32_t>(index), out);
  return RETORT_OK;
}

const void* GetInterface(void*, const char* id) {
  static constexpr retort_host_json_v1 kJson = {.struct_size = sizeof(retort_host_json_v1),
                                                .flags = 0,
                                                .ctx = nullptr,
                                                .parse = Parse,
                                                .free = Free,
                                                .value = GetValue,
                                                .member = GetMember,
                                                .element = GetElement};
  return std::string_view(id) == RETORT_HOST_JSON_INTERFACE ? &kJson : nullptr;
}

}  // namespace

const retort_host* PluginHost() {
  static constexpr retort_host kHost = {.struct_size = sizeof(retort_host),
                                        .abi_minor = RETORT_ABI_MINOR,
                                        .name = "retort",
                                        .version = RETORT_VERSION,
                                        .ctx = nullptr,
                                        .get_interface = GetInterface};
  return &kHost;
}

}  // namespace retort::host
