// Pairs of answers to one prompt, one preferred: what reward models are trained on. A pair is one
// training example, so that both answers are always in one micro-batch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/record.h"
#include "core/data/sample.h"
#include "core/data/sft_example.h"

namespace retort::data {

struct Pair {
  int64_t split = 0;  // tokens of the preferred text; the rest of the example is the other
  float better = 1, worse = 0;  // targets: by how much they differ is the pair's margin
};

struct PairBuild {
  SftBuild build;           // an example per pair; its labels are the last tokens of both texts
  std::vector<Pair> pairs;  // of build.examples
  int64_t equal = 0;        // left out: nothing tells the answers apart
};

// Columns `chosen` and `rejected`: each the completion of the prompt, or messages (an answer's, or
// whole conversations); `margin`, if there is one, is the difference of the targets.
// `options.max_length` is of each text.
Status AddPreference(const Record& record, const SftOptions& options, PairBuild* build);

// Of the samples of one record the best and the worst by reward `name`, or, if it is "", by the
// sum of those that were measured. Samples without a score don't count.
Status AddBestAndWorst(std::span<const Sample> group, const SftOptions& options,
                       const std::string& name, PairBuild* build);

}  // namespace retort::data
