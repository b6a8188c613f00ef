// Lines of samples read in chunks of whole groups: what score and filter work on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/data/sample.h"
#include "host/commands/command.h"
#include "host/commands/io.h"

namespace retort::host {

struct SampleChunk {
  std::vector<data::Sample> samples;
  std::vector<std::string> lines;  // as read
};

class GroupReader {
 public:
  GroupReader(InputLines input, size_t about) : input_(std::move(input)), about_(about) {}

  // At least `about` samples, up to the end of the last one's group; empty at the end. Errors name
  // the line.
  Result<SampleChunk> Next(const engine::Cancel* cancel);
  double fraction() const { return input_.fraction(); }

 private:
  InputLines input_;
  size_t about_;
  std::optional<data::Sample> ahead_;  // the first of the next group, and its line
  std::string ahead_line_;
};

}  // namespace retort::host
