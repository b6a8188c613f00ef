// Checkpoints of a training stage: `checkpoint-N/` is an HF folder that transformers opens, plus
// `trainer/` with the optimizer's state and a manifest of hashes over everything.
//
// Method: a checkpoint is written into `checkpoint-N.tmp-<nonce>/`, each file durably, the
// manifest last, and then renamed; a folder of the final name is therefore whole, or its bytes
// changed later, which the hashes tell. The latest one is found, never stored: a pointer file
// could outlive what it points at. A left-over .tmp folder is no error.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/io/filesystem.h"

namespace retort::checkpoint {

// (name, value) of what decides whether a resumed run computes the same bits.
using Environment = std::vector<std::pair<std::string, std::string>>;

struct SaveRequest {
  int64_t step = 0;  // optimizer steps done
  // Writes the HF folder and gives the digests of its files (model::WriteModelFolder).
  std::function<Result<std::vector<io::FileDigest>>(const std::string& folder)> write_model;
  // Of the optimizer; empty with `has_state` false: a finished stage's last checkpoint, which
  // nobody continues from.
  bool has_state = true;
  std::span<const engine::StateTensor> state = {};
  std::string scalars = {};
  std::string trainer_state = {};  // trainer_state.json
  std::string progress = {};       // the caller's own JSON object, kept in the manifest
  Environment environment = {};
  std::string nonce = {};  // of the temporary name: differs between processes
};

struct Manifest {
  int64_t step = 0;
  bool has_state = false;
  std::string progress = "{}";
  Environment environment = {};
  std::vector<io::FileDigest> files = {};  // relative to the checkpoint, sorted by name
};

struct Found {
  std::string folder = {};
  Manifest manifest = {};
};

// Writes `parent`/checkpoint-<step>. One that is there already goes to `trash` first.
Result<Found> Save(io::FileSystem& fs, const std::string& parent, const std::string& trash,
                   const SaveRequest& request);

// The newest checkpoint all of whose files have the recorded sizes and hashes; nothing if there is
// none. Those that fail are named in `warnings` and passed over; one that the system can't read now
// (io::IsOfTheSystem) is the caller's error, as it may be whole.
Result<std::optional<Found>> FindLatest(io::FileSystem& fs, const std::string& parent,
                                        std::vector<std::string>* warnings);

// All checks of one checkpoint; the error names the file and the rule.
Result<Manifest> Verify(io::FileSystem& fs, const std::string& folder);

// Reads the optimizer's tensors into `state` (every name, shape and type must fit) and its scalars.
Result<std::string> LoadState(const std::string& folder,
                              std::span<const engine::StateTensor> state);

// Removes the oldest checkpoints beyond `keep` (0: keeps all), each through `trash`, and left-over
// temporary folders. The newest stays, and the one named `best` ("": none), which counts among
// those kept: as transformers' save_total_limit.
Status Retain(io::FileSystem& fs, const std::string& parent, const std::string& trash, int64_t keep,
              const std::string& best = {});

// "threads was 4 and is 2; …": where two environments differ, or "".
std::string Difference(const Environment& saved, const Environment& now);

}  // namespace retort::checkpoint
