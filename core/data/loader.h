// The training loader: a deterministic order from (seed, stage, epoch), packing, and windows of
// packed micro-batches, one window per optimizer step. Its state is two integers: a loader
// restored to them yields bit-equal windows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/data/packing.h"
#include "core/data/sft_example.h"

namespace retort::data {

// Shaped like engine::MicroBatch (whose header core/data may not see): move the vectors over.
struct PackedBatch {
  std::vector<int32_t> ids, positions, cu_seqlens;
  std::vector<int64_t> labels;  // labels[t] is the token after t; -100: none
  std::vector<float> weight;    // per label
  std::vector<Piece> pieces;    // of the examples: one per sequence
};

inline constexpr int64_t kLeastMicroTokens = 2048;

struct LoaderOptions {
  uint64_t seed = 0;  // with `stage` (a number that names it) the key of all randomness
  uint64_t stage = 0;
  int64_t max_length = 4096;  // tokens of a row
  Packing packing = Packing::kBfd;
  int64_t packing_window = 1000;  // documents packed together
  bool shuffle = true;
  // Tokens of an optimizer step: rows are taken while they fit (at least one). Or, if
  // `per_device` > 0, sequences: `accumulation` micro-batches of `per_device` rows.
  int64_t batch_tokens = 16384;
  int64_t per_device = 0, accumulation = 1;
  int64_t micro_tokens = 0;  // tokens of a micro-batch; 0: max_length, at least kLeastMicroTokens
  // A mixture: examples [ends[i-1], ends[i]) are source i, seen weights[i] times an epoch (a
  // fraction: a random part, drawn anew each epoch). Empty: each example once.
  std::vector<int64_t> source_ends = {};
  std::vector<double> source_weights = {};
};

struct LoaderState {
  int64_t epoch = 0;
  int64_t row = 0;  // rows of this epoch already given out
  bool operator==(const LoaderState&) const = default;
};

class Loader {
 public:
  // `examples` outlives the loader. Refuses: no examples, no trained token, sizes <= 0.
  static Result<Loader> Create(std::span<const SftExample> examples, const LoaderOptions& options);

  // The micro-batches of the next optimizer step; an epoch's last window may be smaller. Rows
  // without any label are left out. Runs on for ever: the caller counts epochs or steps.
  std::vector<PackedBatch> Next();

  LoaderState state() const { return state_; }
  Status Restore(LoaderState state);  // refuses a row that the epoch does not have

  // Windows of one epoch (it depends a little on the epoch's order).
  int64_t StepsOf(int64_t epoch) const;
  // Windows of `epochs` epochs; a fraction counts that part of the last one, rounded up.
  int64_t StepsOf(double epochs) const;
  // Epochs done, with the part of the current one: what logs show.
  double epoch_progress() const;

 private:
  Loader(std::span<const SftExample> examples, const LoaderOptions& options);
  std::vector<int64_t> DocumentsOf(int64_t epoch) const;
  std::vector<Row> RowsOf(int64_t epoch) const;
  bool HasLabel(const Row& row) const;
  size_t WindowEnd(const std::vector<Row>& rows, size_t begin) const;
  PackedBatch Collate(std::span<const Row> rows) const;

  std::span<const SftExample> examples_;
  LoaderOptions options_;
  LoaderState state_;
  std::vector<Row> rows_;  // of state_.epoch
};

}  // namespace retort::data
