// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/manifest.h"

#include <utility>

#include "core/json/json.h"

namespace retort::checkpoint {
namespace {

constexpr int64_t kVersion = 1;

bool StaysInside(std::string_view name) {
  if (name.empty() || name[0] == '/' || name.find('\0') != std::string_view::npos) return false;
  size_t begin = 0;
  for (size_t i = 0; i <= name.size(); ++i) {
    if (i < name.size() && name[i] != '/') continue;
    const std::string_view part = name.substr(begin, i - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = i + 1;
  }
  return true;
}

Result<io::FileDigest> ReadDigest(const json::Value& value, const std::string& what) {
  io::FileDigest digest = {.name = std::string(value["name"].StringOr("")),
                           .bytes = 0,
                           .hash = std::string(value["hash"].StringOr(""))};
  const Result<uint64_t> bytes = value["bytes"].AsUint();
  if (!bytes.ok() || digest.hash.size() != 32) {
    return DataLoss(what + ": an entry of files lacks name, bytes or hash");
  }
  if (!StaysInside(digest.name)) {
    return DataLoss(what + ": file name '" + digest.name + "' leaves the checkpoint");
  }
  digest.bytes = *bytes;
  return digest;
}

}  // namespace

std::string WriteManifest(const Manifest& manifest) {
  json::Writer writer(2);
  writer.BeginObject().Field("version", kVersion).Field("step", manifest.step);
  writer.Field("has_state", manifest.has_state).Key("progress").Raw(manifest.progress);
  writer.Key("environment").BeginObject();
  for (const auto& [name, value] : manifest.environment) writer.Field(name, value);
  writer.EndObject().Key("files").BeginArray();
  for (const io::FileDigest& file : manifest.files) {
    writer.BeginObject().Field("name", file.name).Field("bytes", file.bytes);
    writer.Field("hash", file.hash).EndObject();
  }
  writer.EndArray().EndObject();
  return writer.Take() + "\n";
}

Result<Manifest> ReadManifest(std::string_view text, const std::string& what) {
  const Result<json::Document> document = json::Document::Parse(text, what);
  if (!document.ok()) return DataLoss(document.status().message());
  const json::Value root = document->root();
  if (root["version"].IntOr(0) != kVersion) {
    return DataLoss(what + ": is no checkpoint manifest of version " + std::to_string(kVersion));
  }
  const Result<int64_t> step = root["step"].AsInt();
  if (!step.ok() || *step < 0) return DataLoss(what + ": step must be a whole number from 0");
  if (!root["progress"].is_object()) return DataLoss(what + ": progress must be an object");
  Manifest manifest = {.step = *step,
                       .has_state = root["has_state"].BoolOr(false),
                       .progress = root["progress"].Dump(),
                       .environment = {},
                       .files = {}};
  const json::Value environment = root["environment"];
  for (size_t i = 0; i < environment.size(); ++i) {
    manifest.environment.emplace_back(environment.key_at(i), environment.value_at(i).StringOr(""));
  }
  const json::Value files = root["files"];
  for (size_t i = 0; i < files.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(io::FileDigest digest, ReadDigest(files[i], what));
    manifest.files.push_back(std::move(digest));
  }
  if (manifest.files.empty()) return DataLoss(what + ": lists no files");
  return manifest;
}

}  // namespace retort::checkpoint
