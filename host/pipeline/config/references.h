// Names inside a pipeline: what "student", "@sft" and "models/x" stand for where they are used,
// checked: they exist, come earlier, and are of the right kind.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "host/pipeline/config/config.h"
#include "host/pipeline/config/tree.h"

namespace retort::host {

class References {
 public:
  // `config` has models and data; its stages are those before the one being read, and grow.
  References(const Node& root, const PipelineConfig& config, std::string file_folder,
             std::vector<std::string>* errors);

  // Unresolved references are reported and come back half empty. `stage` is the one being read
  // and gets its inputs noted.
  ModelRef Model(const Node& node, const std::string& path, StageConfig* stage);
  std::vector<DataRef> Data(const Node& list, const std::string& path, StageConfig* stage);

 private:
  // True if "@name" is an earlier stage of one of the kinds; else reports why it isn't.
  bool CheckStage(const Node& node, const std::string& path, bool wants_model, StageConfig* stage);
  void Fail(const Node& node, const std::string& path, const std::string& rule);

  const PipelineConfig& config_;
  std::string file_folder_;
  std::vector<std::string> all_stages_;  // of the whole file, in order
  std::vector<std::string>* errors_;
};

}  // namespace retort::host
