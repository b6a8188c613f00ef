// The hashes of all that decides a stage's result, gathered for the comparison with what its
// manifest recorded. Each file is hashed once per reader.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "host/pipeline/artifact.h"
#include "host/pipeline/plan.h"

namespace retort::host {

class MakingsReader {
 public:
  MakingsReader(Session& session, const PipelineConfig& config, const Plan& plan)
      : session_(session), config_(config), plan_(plan) {}
  // FAILED_PRECONDITION: an input stage has not finished.
  Result<StageMakings> Of(const StageConfig& stage);

 private:
  Status AddModel(const ModelRef& ref, NamedHashes* inputs);
  Status AddData(const std::vector<DataRef>& refs, NamedHashes* inputs);
  Status AddFiles(const std::string& what, const std::vector<std::string>& paths,
                  NamedHashes* inputs);
  Status AddPlugin(const std::string& kind, const std::string& id, NamedHashes* plugins);

  Session& session_;
  const PipelineConfig& config_;
  const Plan& plan_;
  std::map<std::string, std::string> files_;  // path -> hash
};

}  // namespace retort::host
