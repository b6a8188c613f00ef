// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/description.h"
#include "host/plugin/first_size.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "core/json/schema.h"
#include "host/library/guard.h"
#include "host/plugin/entry_description.h"
#include "host/plugin/fp_mode.h"
#include "host/plugin/running.h"

namespace retort::host {
namespace {

constexpr std::array<std::string_view, 8> kKinds = {
    RETORT_KIND_FAMILY, RETORT_KIND_OP,     RETORT_KIND_LOSS,   RETORT_KIND_OPTIMIZER,
    RETORT_KIND_REWARD, RETORT_KIND_FILTER, RETORT_KIND_SOURCE, RETORT_KIND_GENERATOR};
constexpr uint32_t kMaxPlugins = 1000;
constexpr const char* kNoKeys = R"({"type": "object", "properties": {}})";

bool IsId(std::string_view id) {
  const auto is_lower = [](char c) { return c >= 'a' && c <= 'z'; };
  return !id.empty() && is_lower(id.front()) && std::all_of(id.begin(), id.end(), [&](char c) {
    return is_lower(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

// A descriptor as a table; its values are looked at in CheckInfo.
Status CheckDescriptor(const retort_descriptor* d) {
  if (d == nullptr) return InvalidArgument("describe gave NULL");
  if (d->struct_size < kFirstDescriptorSize) {
    return InvalidArgument("its descriptor has struct_size " + std::to_string(d->struct_size) +
                           ", expected at least " + std::to_string(kFirstDescriptorSize));
  }
  if (d->kind == nullptr || d->id == nullptr || d->version == nullptr || d->summary == nullptr) {
    return InvalidArgument("its descriptor lacks kind, id, version or summary");
  }
  return OkStatus();
}

// The first rule that a plugin's description breaks, or OK.
Status CheckInfo(const PluginInfo& info) {
  if (std::find(kKinds.begin(), kKinds.end(), info.kind) == kKinds.end()) {
    return Unimplemented("kind \"" + info.kind + "\" is not known");
  }
  if (!IsId(info.id)) {
    return InvalidArgument(
        "id \"" + info.id +
        "\" is not of lower-case letters, digits, '_', '-', '.', first a letter");
  }
  return json::CheckSchema(info.config_schema)
      .WithContext(info.kind + " " + info.id + ": its config schema");
}

Status CheckCount(const std::string& path, uint64_t n) {
  if (n > 0 && n <= kMaxPlugins) return OkStatus();
  return InvalidArgument("plugin " + path + ": says that it holds " + std::to_string(n) +
                         " plugins, must be 1 to " + std::to_string(kMaxPlugins));
}

Result<PluginInfo> Ask(const retort_entry& entry, uint32_t index) {
  const retort_descriptor* d = entry.describe(index);
  RETORT_RETURN_IF_ERROR(CheckDescriptor(d));
  PluginInfo info;
  info.kind = d->kind;
  info.id = d->id;
  info.version = d->version;
  info.summary = d->summary;
  info.config_schema = d->config_schema == nullptr ? kNoKeys : d->config_schema;
  info.flags = d->flags;
  return info;
}

std::string TextAt(const json::Value& object, const char* key) {
  return std::string(object[key].StringOr(""));
}

PluginInfo InfoFromJson(const json::Value& value) {
  PluginInfo info;
  info.kind = TextAt(value, "kind");
  info.id = TextAt(value, "id");
  info.version = TextAt(value, "version");
  info.summary = TextAt(value, "summary");
  info.config_schema = TextAt(value, "config_schema");
  info.license = TextAt(value, "license");
  info.flags = static_cast<uint32_t>(value["flags"].IntOr(0));
  return info;
}

// What is the same for all plugins of a library.
void Complete(LibraryDescription* description) {
  for (PluginInfo& info : description->plugins) {
    info.library = description->library;
    info.path = description->path;
    info.hash = description->hash;
    info.sha256 = description->sha256;
  }
}

}  // namespace

Status CheckDescription(const LibraryDescription& description) {
  RETORT_RETURN_IF_ERROR(CheckCount(description.path, description.plugins.size()));
  for (size_t i = 0; i < description.plugins.size(); ++i) {
    const PluginInfo& info = description.plugins[i];
    RETORT_RETURN_IF_ERROR(CheckInfo(info).WithContext("plugin " + description.path + ": number " +
                                                       std::to_string(i)));
    const auto end = description.plugins.begin() + static_cast<ptrdiff_t>(i);
    const bool twice = std::any_of(description.plugins.begin(), end, [&](const PluginInfo& other) {
      return other.kind == info.kind && other.id == info.id;
    });
    if (twice) {
      return AlreadyExists("plugin " + description.path + ": it holds " + info.kind + " " +
                           info.id + " twice; ids are unique per kind");
    }
  }
  return OkStatus();
}

Result<LibraryDescription> DescribeEntry(const retort_entry& entry,
                                         LibraryDescription description) {
  const std::string label = description.path + " (while it is asked what it holds)";
  const RunningScope running(label.c_str());
  const KeepFloatingPointMode keep;
  description.library = entry.library;
  description.version = entry.version;
  description.abi_major = RETORT_ABI_MAJOR;
  description.abi_minor = entry.abi_minor;
  const Status status = Guard([&]() -> Status {
    const uint32_t n = entry.count();
    RETORT_RETURN_IF_ERROR(CheckCount(description.path, n));
    for (uint32_t i = 0; i < n; ++i) {
      Result<PluginInfo> info = Ask(entry, i);
      if (!info.ok()) {
        return info.status().WithContext("plugin " + description.path + ": number " +
                                         std::to_string(i));
      }
      info->license = entry.license;
      description.plugins.push_back(std::move(info).value());
    }
    return OkStatus();
  });
  if (status.code() == Code::kInternal) {  // thrown, so without the path
    return status.WithContext("plugin " + description.path + ": it threw while it was described");
  }
  RETORT_RETURN_IF_ERROR(status);
  Complete(&description);
  RETORT_RETURN_IF_ERROR(CheckDescription(description));
  return description;
}

LibraryDescription DescriptionOf(const LoadedLibrary& library) {
  LibraryDescription description;
  description.path = library.path;
  description.hash = library.hash;
  description.sha256 = library.sha256;
  description.bytes = library.bytes;
  return description;
}

Result<LibraryDescription> DescribeLibrary(const std::string& path) {
  RETORT_ASSIGN_OR_RETURN(const LoadedLibrary library, OpenLibrary(io::Absolute(path)));
  return DescribeEntry(*library.entry, DescriptionOf(library));
}

std::string DescriptionToJson(const LibraryDescription& description) {
  json::Writer out;
  out.BeginObject().Field("path", description.path).Field("hash", description.hash);
  out.Field("sha256", description.sha256).Field("bytes", description.bytes);
  out.Field("library", description.library).Field("version", description.version);
  out.Field("abi_major", description.abi_major).Field("abi_minor", description.abi_minor);
  out.Key("plugins").BeginArray();
  for (const PluginInfo& info : description.plugins) {
    out.BeginObject().Field("kind", info.kind).Field("id", info.id);
    out.Field("version", info.version).Field("summary", info.summary);
    out.Field("config_schema", info.config_schema).Field("license", info.license);
    out.Field("flags", info.flags).EndObject();
  }
  out.EndArray().EndObject();
  return out.Take();
}

Result<LibraryDescription> DescriptionFromJson(std::string_view text) {
  const json::ParseOptions options{.max_bytes = uint64_t{16} << 20};
  Result<json::Document> document = json::Document::Parse(text, "library description", options);
  if (!document.ok()) return DataLoss(document.status().message());
  const json::Value root = document->root();
  if (!root["plugins"].is_array() || !root["path"].is_string()) {
    return DataLoss("library description: no \"plugins\" or \"path\"");
  }
  LibraryDescription description;
  description.path = TextAt(root, "path");
  description.hash = TextAt(root, "hash");
  description.sha256 = TextAt(root, "sha256");
  description.library = TextAt(root, "library");
  description.version = TextAt(root, "version");
  description.bytes = static_cast<uint64_t>(std::max<int64_t>(root["bytes"].IntOr(0), 0));
  description.abi_major = static_cast<uint32_t>(root["abi_major"].IntOr(0));
  description.abi_minor = static_cast<uint32_t>(root["abi_minor"].IntOr(0));
  for (size_t i = 0; i < root["plugins"].size(); ++i) {
    description.plugins.push_back(InfoFromJson(root["plugins"][i]));
  }
  Complete(&description);
  RETORT_RETURN_IF_ERROR(CheckDescription(description));
  return description;
}

}  // namespace retort::host
