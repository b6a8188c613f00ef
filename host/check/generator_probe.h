// Calls a generator straight and follows every event of every sample.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "host/check/raw_plugin.h"
#include "retort/abi/draft/generator.h"

namespace retort::host::check {

struct GeneratorRequest {
  uint64_t uid = 0;
  std::string messages, params;  // JSON
  std::vector<int32_t> ids;      // empty: text only
  uint32_t n_samples = 1;
};
std::vector<GeneratorRequest> OrdinaryRequests(const Subject& subject, size_t n);

class GeneratorProbe {
 public:
  static Result<GeneratorProbe> Make(const Subject& subject, const CallKind& kind = {});
  GeneratorProbe(GeneratorProbe&&) noexcept;
  GeneratorProbe& operator=(GeneratorProbe&&) noexcept;
  ~GeneratorProbe();

  // Submits those from `first` on; gives how many were taken. The memory of the requests lives as
  // long as this object, or (`forget`) is unmapped at once.
  Result<uint64_t> Submit(const std::vector<GeneratorRequest>& requests, size_t first = 0,
                          bool forget = false, size_t stride_extra = 0);
  // All of them, with polls between when its queue is full. Fails when it takes too long.
  Status SubmitAll(const std::vector<GeneratorRequest>& requests, size_t stride_extra = 0);
  // One poll that may wait `wait_ms` (0 or less: the deadline has passed already). Fails with what
  // is wrong, an illegal event included.
  Status Poll(int64_t wait_ms);
  Status Poll(int64_t wait_ms, RawCall& call, bool may_fail);
  // Polls until all that was submitted is done, failed or cancelled. Fails when it takes too long.
  Status Finish();
  Result<retort_status> Cancel(uint64_t uid);

  struct Sample {
    bool done = false;
    std::string deltas, text;  // text: of DONE
    uint32_t finish = 0;
    uint64_t n_deltas = 0;
  };
  const std::map<std::pair<uint64_t, uint32_t>, Sample>& samples() const;
  // Texts of ERROR events by uid.
  const std::map<uint64_t, std::string>& errors() const;
  uint64_t n_events() const;
  RawInstance& instance();

  struct Impl;

 private:
  explicit GeneratorProbe(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace retort::host::check
