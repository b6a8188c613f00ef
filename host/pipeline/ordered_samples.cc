// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/ordered_samples.h"

#include <utility>

#include "core/data/sample.h"

namespace retort::host {
namespace {

// Lines already in the file; each must be the next sample of the order.
Result<size_t> CountDone(const std::string& path, const SampleOrder& order) {
  RETORT_ASSIGN_OR_RETURN(const bool there, io::IsThere(io::RealFileSystem(), path));
  if (!there) return size_t{0};
  RETORT_ASSIGN_OR_RETURN(io::JsonlReader reader, io::JsonlReader::Open(path));
  for (size_t done = 0;; ++done) {
    RETORT_ASSIGN_OR_RETURN(const auto line, reader.NextLine());
    if (!line) return done;
    RETORT_ASSIGN_OR_RETURN(const data::Sample sample, data::SampleFromJson(*line, reader.where()));
    const size_t record = done / static_cast<size_t>(order.samples);
    const auto index = static_cast<int32_t>(done % static_cast<size_t>(order.samples));
    const bool next = done < order.total() && sample.record_uid == order.records[record].uid &&
                      sample.index == index;
    if (next) continue;
    return DataLoss(reader.where() +
                    ": is not the sample that belongs there; start the stage "
                    "anew with --from");
  }
}

}  // namespace

Result<OrderedSamples> OrderedSamples::Open(io::FileSystem& fs, const std::string& path,
                                            const SampleOrder& order) {
  RETORT_ASSIGN_OR_RETURN(io::JsonlAppender file, io::JsonlAppender::Open(fs, path));
  RETORT_ASSIGN_OR_RETURN(const size_t done, CountDone(path, order));
  return OrderedSamples(std::move(file), done);
}

Status OrderedSamples::Add(size_t position, std::string line) {
  if (Has(position)) return OkStatus();
  waiting_[position] = std::move(line);
  while (!waiting_.empty() && waiting_.begin()->first == next_) {
    RETORT_RETURN_IF_ERROR(file_.Append(waiting_.begin()->second));
    waiting_.erase(waiting_.begin());
    ++next_;
  }
  return OkStatus();
}

}  // namespace retort::host
