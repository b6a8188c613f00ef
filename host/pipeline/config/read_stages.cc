// Stages without training.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "host/pipeline/config/builder.h"
#include "host/pipeline/config/read.h"

namespace retort::host {

void ConfigBuilder::ReadGenerate(const Node& node, const std::string& path, StageConfig* stage) {
  stage->kind = StageKind::kGenerate;
  GenerateStage& g = stage->generate;
  ReadAnswerer(node, path, stage);
  g.data = references_.Data(*node.Find("data"), path + ".data", stage);
  g.samples = IntAt(node, "samples");
  g.limit = IntAt(node, "limit");
  g.decoding = ReadDecoding(node);
  g.chat = ReadChat(node);
  g.prefix = StringAt(node, "prefix");
  g.sampling = ReadSampling(node, path);
}

void ConfigBuilder::ReadAnswerer(const Node& node, const std::string& path, StageConfig* stage) {
  GenerateStage& g = stage->generate;
  const Node* model = node.Find("model");
  const Node* generator = node.Find("generator");
  if ((model == nullptr) == (generator == nullptr)) {
    Fail(node.where, path, "give \"model\" or \"generator\", one of the two");
  }
  if (model != nullptr) g.model = references_.Model(*model, path + ".model", stage);
  if (generator == nullptr) return;
  if (!StringAt(node, "prefix").empty()) {
    Fail(node.Find("prefix")->where, path + ".prefix",
         "a generator's completions can't be given a forced start; leave it out");
  }
  g.generator = {.plugin = ReadUse(*generator, "generator"),
                 .fail_on_error = StringAt(*generator, "on_error") == "fail",
                 .max_error_rate = NumberAt(*generator, "max_error_rate"),
                 .max_retries = IntAt(*generator, "max_retries")};
  NotePlugin("generator", g.generator->plugin.plugin, stage);
}

void ConfigBuilder::ReadFilter(const Node& node, const std::string& path, StageConfig* stage) {
  stage->kind = StageKind::kFilter;
  FilterStage& f = stage->filter;
  f.data = references_.Data(*node.Find("data"), path + ".data", stage);
  f.limit = IntAt(node, "limit");
  f.filters = ReadChain(node, "filters", path, "filter", stage);
  if (const Node* tokenizer = node.Find("tokenizer")) {
    f.tokenizer = references_.Model(*tokenizer, path + ".tokenizer", stage);
  }
}

}  // namespace retort::host
