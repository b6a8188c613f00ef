// SPDX-License-Identifier: Apache-2.0
#include "host/commands/groups.h"

#include <utility>

#include "host/commands/lines.h"

namespace retort::host {

Result<SampleChunk> GroupReader::Next(const engine::Cancel* cancel) {
  SampleChunk chunk;
  if (ahead_.has_value()) {
    chunk.samples.push_back(std::move(*ahead_));
    chunk.lines.push_back(std::move(ahead_line_));
    ahead_.reset();
  }
  for (;;) {
    if (cancel != nullptr && cancel->load() != 0) return Interrupted();
    RETORT_ASSIGN_OR_RETURN(const std::optional<std::string_view> line, input_.Next());
    if (!line.has_value()) return chunk;
    RETORT_ASSIGN_OR_RETURN(data::Sample sample, SampleFromLine(*line, input_.where()));
    const bool full = chunk.samples.size() >= about_;
    if (full && sample.record_uid != chunk.samples.back().record_uid) {
      ahead_ = std::move(sample);
      ahead_line_ = *line;
      return chunk;
    }
    chunk.samples.push_back(std::move(sample));
    chunk.lines.emplace_back(*line);
  }
}

}  // namespace retort::host
