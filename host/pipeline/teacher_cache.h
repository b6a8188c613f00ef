// What a teacher thinks of every trained token of a stage's examples: its k likeliest tokens, their
// log-probabilities and that of the rest. Written once, in shards that appear whole or not at all,
// and read by memory map. The format stands in docs/distill.md.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/packing.h"
#include "core/data/sft_example.h"
#include "core/engine/engine.h"
#include "core/io/filesystem.h"
#include "core/io/safetensors.h"

namespace retort::host {

// All that decides the rows.
struct TeacherCacheIdentity {
  std::string teacher = {}, tokenizer = {};  // hashes
  double temperature = 1;
  int32_t k = 0;
  std::string examples = {};  // a hash over their ids and trained tokens

  std::string ToJson() const;
  std::string Hash() const;
};
std::string HashExamples(std::span<const data::SftExample> examples);

class TeacherCache {
 public:
  // The cache in `folder`, which is made and described if it isn't there. FAILED_PRECONDITION if it
  // was made for something else: the text names what differs. `examples` outlive the cache.
  static Result<TeacherCache> Open(io::FileSystem& fs, const std::string& folder,
                                   const TeacherCacheIdentity& identity,
                                   std::span<const data::SftExample> examples);

  size_t n_shards() const { return shards_.size(); }
  std::span<const data::SftExample> ExamplesOf(size_t shard) const;
  // Makes the rows of a shard readable. NOT_FOUND: it was not written yet. DATA_LOSS: it is not
  // what it should be; the text says where.
  Status Map(size_t shard);
  // One row for each trained token of the shard's examples (but their first tokens), in order.
  Status Write(size_t shard, const engine::TeacherRows& rows);

  // Once every shard is mapped: rows of a micro-batch packed from `pieces`, one for each token;
  // those without a label are unused. Tokens beyond the student's `vocab` are padding of the
  // teacher's: they are left out, and the rest is what it would be without them.
  Result<engine::TeacherRows> RowsOf(std::span<const data::Piece> pieces, int64_t vocab) const;

  int64_t rows() const { return n_rows_; }
  int64_t bytes() const;  // of the mapped files

 private:
  struct Shard {
    size_t begin = 0, end = 0;  // examples
    int64_t rows = 0;
    std::optional<io::Safetensors> file = {};
    bool wide_ids = false;                                        // i32 instead of i16
    const char *ids = nullptr, *logp = nullptr, *tail = nullptr;  // in the map
  };

  TeacherCache(io::FileSystem& fs, std::string folder, TeacherCacheIdentity identity,
               std::span<const data::SftExample> examples);
  std::string PathOf(size_t shard) const;
  Status Check(size_t shard, const io::Safetensors& file) const;
  static int32_t IdAt(const Shard& shard, int64_t at);
  Status ReadRow(const Shard& shard, int64_t row, int64_t vocab, int32_t* ids, float* logp,
                 float* tail) const;

  io::FileSystem* fs_;
  std::string folder_;
  TeacherCacheIdentity identity_;
  std::span<const data::SftExample> examples_;
  std::vector<Shard> shards_;
  std::vector<size_t> shard_of_;    // of each example
  std::vector<int64_t> first_row_;  // of each example, in its shard
  int64_t n_rows_ = 0;
};

}  // namespace retort::host
