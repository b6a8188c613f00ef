// A file of samples in order of (record, index), whatever order they are finished in: a stopped
// file is a prefix of the finished one, and the rest can be made later.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "core/base/status.h"
#include "core/data/record.h"
#include "core/io/jsonl.h"

namespace retort::host {

// The samples a file is to hold: `samples` of each record, whose uids differ.
struct SampleOrder {
  std::span<const data::Record> records = {};
  int64_t samples = 1;
  size_t total() const { return records.size() * static_cast<size_t>(samples); }
  size_t At(size_t record, int32_t index) const {
    return record * static_cast<size_t>(samples) + static_cast<size_t>(index);
  }
};

class OrderedSamples {
 public:
  // Cuts a torn last line off; DATA_LOSS when what is there is not the beginning of the order.
  static Result<OrderedSamples> Open(io::FileSystem& fs, const std::string& path,
                                     const SampleOrder& order);

  size_t written() const { return next_; }
  size_t taken() const { return next_ + waiting_.size(); }  // written or waiting for others
  bool Has(size_t position) const { return position < next_ || waiting_.count(position) > 0; }
  // Writes it once all before it are there. One that it has already is ignored.
  Status Add(size_t position, std::string line);
  Status Sync() { return file_.Sync(); }

 private:
  OrderedSamples(io::JsonlAppender file, size_t next) : file_(std::move(file)), next_(next) {}

  io::JsonlAppender file_;
  size_t next_;  // position of the next line
  std::map<size_t, std::string> waiting_;
};

}  // namespace retort::host
