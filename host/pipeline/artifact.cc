// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/artifact.h"

#include <algorithm>

#include "core/base/hash.h"
#include "core/json/json.h"

namespace retort::host {
namespace {

constexpr const char* kName = "manifest.json";
constexpr uint64_t kMaxBytes = uint64_t{1} << 20;
constexpr int64_t kVersion = 1;

void WriteHashes(json::Writer& writer, std::string_view key, const NamedHashes& hashes) {
  writer.Key(key).BeginObject();
  for (const auto& [name, hash] : hashes) writer.Field(name, hash);
  writer.EndObject();
}

NamedHashes ReadHashes(const json::Value& object) {
  NamedHashes hashes;
  for (size_t i = 0; i < object.size(); ++i) {
    hashes.emplace_back(object.key_at(i), object.value_at(i).StringOr(""));
  }
  return hashes;
}

std::string HashIn(const NamedHashes& hashes, const std::string& name) {
  const auto is_it = [&](const auto& entry) { return entry.first == name; };
  const auto found = std::find_if(hashes.begin(), hashes.end(), is_it);
  return found != hashes.end() ? found->second : "";
}

void Compare(const NamedHashes& before, const NamedHashes& now, const std::string& what,
             std::string* out) {
  const auto note = [&](const std::string& name) {
    *out += (out->empty() ? "" : ", ") + what + name;
  };
  for (const auto& [name, hash] : now) {
    if (HashIn(before, name) != hash) note(name);
  }
  for (const auto& [name, hash] : before) {
    if (HashIn(now, name).empty()) note(name);
  }
}

}  // namespace

std::string DifferenceOf(const StageMakings& before, const StageMakings& now) {
  std::string out;
  if (before.kind != now.kind) out = "kind";
  if (before.config_hash != now.config_hash) out += out.empty() ? "config" : ", config";
  Compare(before.inputs, now.inputs, "input ", &out);
  Compare(before.plugins, now.plugins, "plugin ", &out);
  return out;
}

std::string StageManifest::ArtifactHash() const {
  Hasher hasher;
  for (const io::FileDigest& file : files) {
    hasher.UpdateSized(file.name);
    hasher.UpdateSized(std::to_string(file.bytes));
    hasher.UpdateSized(file.hash);
  }
  return hasher.Hex();
}

Result<std::optional<StageManifest>> ReadStageManifest(io::FileSystem& fs,
                                                       const std::string& stage_folder) {
  const std::string path = io::Join(stage_folder, kName);
  RETORT_ASSIGN_OR_RETURN(const bool there, io::IsThere(fs, path));
  if (!there) return std::optional<StageManifest>();
  RETORT_ASSIGN_OR_RETURN(const std::string text, fs.Read(path, kMaxBytes));
  const Result<json::Document> document = json::Document::Parse(text, path);
  if (!document.ok()) return DataLoss(document.status().message());
  const json::Value root = document->root();
  if (root["version"].IntOr(0) != kVersion) {
    return DataLoss(path + ": is no stage manifest of version " + std::to_string(kVersion));
  }
  StageManifest manifest = {
      .stage = std::string(root["stage"].StringOr("")),
      .finished = root["finished"].BoolOr(false),
      .makings = {.kind = std::string(root["kind"].StringOr("")),
                  .config_hash = std::string(root["config_hash"].StringOr("")),
                  .inputs = ReadHashes(root["inputs"]),
                  .plugins = ReadHashes(root["plugins"])},
      .files = {},
      .numbers = root["numbers"].is_object() ? root["numbers"].Dump() : "{}"};
  const json::Value files = root["files"];
  for (size_t i = 0; i < files.size(); ++i) {
    manifest.files.push_back({.name = std::string(files[i]["name"].StringOr("")),
                              .bytes = static_cast<uint64_t>(files[i]["bytes"].IntOr(0)),
                              .hash = std::string(files[i]["hash"].StringOr(""))});
  }
  return std::optional<StageManifest>(std::move(manifest));
}

Status WriteStageManifest(io::FileSystem& fs, const std::string& stage_folder,
                          const StageManifest& manifest) {
  json::Writer writer(2);
  writer.BeginObject().Field("version", kVersion).Field("stage", manifest.stage);
  writer.Field("kind", manifest.makings.kind).Field("finished", manifest.finished);
  writer.Field("config_hash", manifest.makings.config_hash);
  WriteHashes(writer, "inputs", manifest.makings.inputs);
  WriteHashes(writer, "plugins", manifest.makings.plugins);
  writer.Key("files").BeginArray();
  for (const io::FileDigest& file : manifest.files) {
    writer.BeginObject().Field("name", file.name).Field("bytes", file.bytes);
    writer.Field("hash", file.hash).EndObject();
  }
  writer.EndArray().Key("numbers").Raw(manifest.numbers).EndObject();
  return io::DurableWrite(fs, io::Join(stage_folder, kName), writer.Take() + "\n").status();
}

Status VerifyFiles(io::FileSystem& fs, const std::string& stage_folder,
                   const StageManifest& manifest) {
  for (const io::FileDigest& file : manifest.files) {
    const std::string path = io::Join(stage_folder, file.name);
    RETORT_ASSIGN_OR_RETURN(const io::FileInfo info, fs.Stat(path));
    if (info.bytes != file.bytes) {
      return DataLoss(path + ": has " + std::to_string(info.bytes) + " bytes, its manifest says " +
                      std::to_string(file.bytes));
    }
    RETORT_ASSIGN_OR_RETURN(const io::FileDigest now, io::HashFile(path));
    if (now.hash != file.hash) return DataLoss(path + ": changed after the stage wrote it");
  }
  return OkStatus();
}

}  // namespace retort::host
