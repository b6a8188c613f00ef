// Method: an epoch is a list of rows, a pure function of (key, epoch, examples, options): draw the
// epoch's documents in random order, pack them `packing_window` at a time (as TRL maps a data set
// in batches), then shuffle the rows, because packing sorts by length. Windows are consecutive
// rows. So (epoch, row) is the whole state; rows are rebuilt from it on Restore.
// SPDX-License-Identifier: Apache-2.0
#include "core/data/loader.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "core/base/rng.h"

namespace retort::data {
namespace {

RngKey KeyOf(const LoaderOptions& options, std::string_view purpose) {
  return Derive(RngKey{options.stage, options.seed}, purpose);
}

int64_t TokensOf(const Row& row) {
  int64_t tokens = 0;
  for (const Piece& piece : row) tokens += piece.size();
  return tokens;
}

Status CheckOptions(size_t examples, const LoaderOptions& o) {
  const auto positive = [](const char* key, int64_t value) {
    return value > 0 ? OkStatus()
                     : InvalidArgument(std::string(key) + " is " + std::to_string(value) +
                                       "; it must be at least 1");
  };
  RETORT_RETURN_IF_ERROR(positive("max_length", o.max_length));
  RETORT_RETURN_IF_ERROR(positive("packing_window", o.packing_window));
  if (o.per_device != 0) {
    RETORT_RETURN_IF_ERROR(positive("batch.per_device", o.per_device));
    RETORT_RETURN_IF_ERROR(positive("batch.accumulation", o.accumulation));
  } else {
    RETORT_RETURN_IF_ERROR(positive("batch_tokens", o.batch_tokens));
  }
  if (o.micro_tokens < 0) return InvalidArgument("micro_tokens must not be negative");
  if (o.source_ends.size() != o.source_weights.size()) {
    return InvalidArgument("a mixture needs one weight per source");
  }
  if (o.source_ends.empty()) return OkStatus();
  if (!std::is_sorted(o.source_ends.begin(), o.source_ends.end()) || o.source_ends[0] < 0 ||
      o.source_ends.back() != static_cast<int64_t>(examples)) {
    return InvalidArgument("the sources of a mixture must cover all examples in order");
  }
  for (double weight : o.source_weights) {
    if (!(weight >= 0 && weight <= 1000)) {
      return InvalidArgument("weight " + std::to_string(weight) +
                             " of a data source is outside 0..1000");
    }
  }
  return OkStatus();
}

}  // namespace

Loader::Loader(std::span<const SftExample> examples, const LoaderOptions& options)
    : examples_(examples), options_(options) {
  if (options_.micro_tokens == 0) {
    options_.micro_tokens = std::max(options_.max_length, kLeastMicroTokens);
  }
}

Result<Loader> Loader::Create(std::span<const SftExample> examples, const LoaderOptions& options) {
  RETORT_RETURN_IF_ERROR(CheckOptions(examples.size(), options));
  if (examples.empty()) return InvalidArgument("there is no example to train on");
  Loader loader(examples, options);
  loader.rows_ = loader.RowsOf(0);
  if (loader.rows_.empty()) {
    return InvalidArgument("no example of " + std::to_string(examples.size()) +
                           " has a token to train on within max_length " +
                           std::to_string(options.max_length));
  }
  return loader;
}

// The documents of an epoch, each as often as its source's weight says.
std::vector<int64_t> Loader::DocumentsOf(int64_t epoch) const {
  std::vector<int64_t> documents;
  if (options_.source_ends.empty()) {
    documents.resize(examples_.size());
    std::iota(documents.begin(), documents.end(), int64_t{0});
    return documents;
  }
  int64_t begin = 0;
  for (size_t s = 0; s < options_.source_ends.size(); ++s) {
    std::vector<int64_t> source(static_cast<size_t>(options_.source_ends[s] - begin));
    std::iota(source.begin(), source.end(), begin);
    const double whole = std::floor(options_.source_weights[s]);
    for (int64_t n = 0; n < static_cast<int64_t>(whole); ++n) {
      documents.insert(documents.end(), source.begin(), source.end());
    }
    const double rest = options_.source_weights[s] - whole;
    const auto part = std::llround(rest * static_cast<double>(source.size()));
    Shuffle(Derive(KeyOf(options_, "loader.mixture"), static_cast<uint64_t>(epoch), s), &source);
    documents.insert(documents.end(), source.begin(), source.begin() + part);
    begin = options_.source_ends[s];
  }
  return documents;
}

std::vector<Row> Loader::RowsOf(int64_t epoch) const {
  std::vector<int64_t> documents = DocumentsOf(epoch);
  const auto key = [&](std::string_view purpose) {
    return Derive(KeyOf(options_, purpose), static_cast<uint64_t>(epoch));
  };
  if (options_.shuffle) Shuffle(key("loader.documents"), &documents);
  std::vector<Row> rows;
  std::vector<int64_t> lengths;
  const auto window = static_cast<size_t>(options_.packing_window);
  for (size_t begin = 0; begin < documents.size(); begin += window) {
    const size_t end = std::min(documents.size(), begin + window);
    lengths.clear();
    for (size_t i = begin; i < end; ++i) {
      lengths.push_back(
          static_cast<int64_t>(examples_[static_cast<size_t>(documents[i])].ids.size()));
    }
    for (Row& row : Pack(lengths, options_.max_length, options_.packing)) {
      for (Piece& piece : row) {
        piece.document = documents[begin + static_cast<size_t>(piece.document)];
      }
      if (HasLabel(row)) rows.push_back(std::move(row));
    }
  }
  if (options_.shuffle && options_.packing != Packing::kNone) Shuffle(key("loader.rows"), &rows);
  return rows;
}

bool Loader::HasLabel(const Row& row) const {
  return std::any_of(row.begin(), row.end(), [&](const Piece& piece) {
    const auto& trained = examples_[static_cast<size_t>(piece.document)].trained;
    const auto first = trained.begin() + piece.begin + 1, last = trained.begin() + piece.end;
    return std::find(first, last, uint8_t{1}) != last;
  });
}

// Rows [begin, end) make an optimizer step.
size_t Loader::WindowEnd(const std::vector<Row>& rows, size_t begin) const {
  if (options_.per_device > 0) {
    const auto rows_per_step = static_cast<size_t>(options_.per_device * options_.accumulation);
    return std::min(rows.size(), begin + rows_per_step);
  }
  int64_t tokens = TokensOf(rows[begin]);
  size_t end = begin + 1;
  for (; end < rows.size(); ++end) {
    tokens += TokensOf(rows[end]);
    if (tokens > options_.batch_tokens) break;
  }
  return end;
}

std::vector<PackedBatch> Loader::Next() {
  if (static_cast<size_t>(state_.row) >= rows_.size()) {
    state_ = {state_.epoch + 1, 0};
    rows_ = RowsOf(state_.epoch);
    // Only a mixture of tiny shares can come to this: Create has seen rows in epoch 0.
    if (rows_.empty()) throw Error(FailedPrecondition("this epoch's mixture drew no example"));
  }
  std::vector<PackedBatch> batches;
  const auto begin = static_cast<size_t>(state_.row);
  const size_t end = WindowEnd(rows_, begin);
  const std::span<const Row> window(rows_.data() + begin, end - begin);
  for (size_t at = 0; at < window.size();) {
    size_t n = 1;
    int64_t tokens = TokensOf(window[at]);
    for (; at + n < window.size(); ++n) {
      tokens += TokensOf(window[at + n]);
      const bool full = options_.per_device > 0 ? n >= static_cast<size_t>(options_.per_device)
                                                : tokens > options_.micro_tokens;
      if (full) break;
    }
    batches.push_back(Collate(window.subspan(at, n)));
    at += n;
  }
  state_.row = static_cast<int64_t>(end);
  return batches;
}

PackedBatch Loader::Collate(std::span<const Row> rows) const {
  PackedBatch batch;
  batch.cu_seqlens.push_back(0);
  for (const Row& row : rows) {
    for (const Piece& piece : row) {
      const SftExample& example = examples_[static_cast<size_t>(piece.document)];
      for (int64_t t = piece.begin; t < piece.end; ++t) {
        const auto next = static_cast<size_t>(t + 1);
        const bool labelled = t + 1 < piece.end && example.trained[next] != 0;
        batch.ids.push_back(example.ids[static_cast<size_t>(t)]);
        batch.positions.push_back(static_cast<int32_t>(t - piece.begin));
        batch.labels.push_back(labelled ? int64_t{example.ids[next]} : int64_t{-100});
        batch.weight.push_back(labelled ? example.weight : 0.0F);
      }
      batch.cu_seqlens.push_back(static_cast<int32_t>(batch.ids.size()));
      batch.pieces.push_back(piece);
    }
  }
  return batch;
}

Status Loader::Restore(LoaderState state) {
  if (state.epoch < 0 || state.row < 0) {
    return InvalidArgument("a loader state must not be negative");
  }
  std::vector<Row> rows = state.epoch == state_.epoch ? rows_ : RowsOf(state.epoch);
  if (static_cast<size_t>(state.row) > rows.size()) {
    return FailedPrecondition("the checkpoint is at row " + std::to_string(state.row) +
                              " of epoch " + std::to_string(state.epoch) +
                              ", but the data gives only " + std::to_string(rows.size()) +
                              " rows: the data or its settings have changed");
  }
  rows_ = std::move(rows);
  state_ = state;
  return OkStatus();
}

int64_t Loader::StepsOf(int64_t epoch) const {
  const std::vector<Row> rows = epoch == state_.epoch ? rows_ : RowsOf(epoch);
  int64_t steps = 0;
  for (size_t at = 0; at < rows.size(); at = WindowEnd(rows, at)) ++steps;
  return steps;
}

int64_t Loader::StepsOf(double epochs) const {
  const auto whole = static_cast<int64_t>(std::floor(epochs));
  int64_t steps = 0;
  for (int64_t e = 0; e < whole; ++e) steps += StepsOf(e);
  const double rest = epochs - static_cast<double>(whole);
  if (rest <= 0) return steps;
  return steps + static_cast<int64_t>(std::ceil(rest * static_cast<double>(StepsOf(whole))));
}

double Loader::epoch_progress() const {
  const double rows = std::max<double>(1, static_cast<double>(rows_.size()));
  return static_cast<double>(state_.epoch) + static_cast<double>(state_.row) / rows;
}

}  // namespace retort::data
