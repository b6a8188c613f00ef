// What a stage leaves behind, as its manifest.json tells it: what it was made of, and the files
// with sizes and hashes. A finished stage whose makings are unchanged is not run again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/io/filesystem.h"

namespace retort::host {

// (name, hash), sorted by name.
using NamedHashes = std::vector<std::pair<std::string, std::string>>;

// All that decides a stage's result.
struct StageMakings {
  std::string kind = {};
  std::string config_hash = {};  // of the resolved config
  NamedHashes inputs = {};       // "data:train", "model:student", "stage:cot" -> hash
  NamedHashes plugins = {};      // "reward/format" -> hash of its library
  bool operator==(const StageMakings&) const = default;
};

// "config", "input data:train", …: what differs, or "" if nothing does.
std::string DifferenceOf(const StageMakings& before, const StageMakings& now);

struct StageManifest {
  std::string stage = {};
  bool finished = false;
  StageMakings makings = {};
  std::vector<io::FileDigest> files = {};  // relative to the stage's folder; once finished
  std::string numbers = "{}";              // seconds, tokens …: a JSON object, for reports

  // What later stages record as their input: a hash over names, sizes and hashes of the files.
  std::string ArtifactHash() const;
};

// Nothing if the stage's folder has none; DATA_LOSS if it can't be read.
Result<std::optional<StageManifest>> ReadStageManifest(io::FileSystem& fs,
                                                       const std::string& stage_folder);
Status WriteStageManifest(io::FileSystem& fs, const std::string& stage_folder,
                          const StageManifest& manifest);

// Every file of a finished manifest is there with its size and hash.
Status VerifyFiles(io::FileSystem& fs, const std::string& stage_folder,
                   const StageManifest& manifest);

}  // namespace retort::host
