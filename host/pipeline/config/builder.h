// Reads a validated pipeline tree into a PipelineConfig: what types and ranges can't say
// (references, keys that exclude each other) is checked here. Methods stand by what they read:
// config.cc the file's own parts, read_parts.cc what several stages share, read_training.cc,
// read_evaluation.cc and read_stages.cc one stage each. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "host/pipeline/config/config.h"
#include "host/pipeline/config/references.h"
#include "host/pipeline/config/tree.h"

namespace retort::host {

class ConfigBuilder {
 public:
  ConfigBuilder(const Node& root, std::string file_folder, std::vector<std::string>* errors)
      : root_(root), errors_(*errors), references_(root, config_, std::move(file_folder), errors) {}

  PipelineConfig Build();

 private:
  void Fail(const Where& where, const std::string& path, const std::string& rule);
  void AddModel(const Member& member);
  void AddData(const Member& member);
  void AddStage(const Node& node);
  // What decides a stage's result, apart from the contents of files: hashed to see changes.
  std::string Canonical(const Node& node, const StageConfig& stage) const;
  // Of the models whose weights the stage reads.
  static std::map<std::string, std::string> NamedStorage(const StageConfig& stage);
  std::set<std::string> NamedData(const StageConfig& stage) const;

  // Parts of several stages.
  static PluginUse ReadUse(const Node& node, const std::string& kind);
  // "source/jsonl" where the place says that it is a source.
  static std::string WithoutKind(std::string id, const std::string& kind);
  static void NotePlugin(const std::string& kind, std::string id, StageConfig* stage);
  static ChatOptions ReadChat(const Node& node);
  std::vector<std::pair<int32_t, double>> ReadLogitBias(const Node& sampling,
                                                        const std::string& path);
  static DecodingOptions ReadDecoding(const Node& node);
  SamplingOptions ReadSampling(const Node& node, const std::string& path);
  void ReadReward(const Node& entry, const std::string& path, ChainConfig* chain,
                  StageConfig* stage);
  ChainConfig ReadChain(const Node& node, const char* key, const std::string& path,
                        const std::string& kind, StageConfig* stage);

  // One stage each, and what they are made of.
  void ReadSft(const Node& node, const std::string& path, StageConfig* stage);
  void ReadGrpo(const Node& node, const std::string& path, StageConfig* stage);
  void ReadRollouts(const Node& node, const std::string& path, GrpoStage* g);
  void ReadRewardModel(const Node& node, const std::string& path, StageConfig* stage);
  void ReadDistill(const Node& node, const std::string& path, StageConfig* stage);
  // The reference that follows the policy.
  void ReadReference(const Node& node, const std::string& path, StageConfig* stage);
  void ReadColdStart(const Node& node, const std::string& path, StageConfig* stage);
  void CheckPpo(const Node& node, const std::string& path);
  void ReadGenerate(const Node& node, const std::string& path, StageConfig* stage);
  // Who answers: a model or a generator plugin.
  void ReadAnswerer(const Node& node, const std::string& path, StageConfig* stage);
  void ReadFilter(const Node& node, const std::string& path, StageConfig* stage);
  void ReadEval(const Node& node, const std::string& path, StageConfig* stage);
  EvalTask ReadTask(const Node& node, const std::string& path, StageConfig* stage);
  EvalTask ReadAnswers(const Node& node, const std::string& path, StageConfig* stage);
  void ReadEvaluation(const Node& node, const std::string& path, TrainingConfig* t,
                      StageConfig* stage);
  void CheckEvaluation(const Node& node, const std::string& path, const EvaluationConfig& e);
  void CheckTrainedStorage(const Node& node, const std::string& path, const TrainingConfig& s);
  void CheckContinued(const Node& node, const std::string& path, const TrainingConfig& s);
  void ReadTraining(const Node& node, const std::string& path, TrainingConfig* t,
                    StageConfig* stage);
  void ReadSteps(const Node& node, const std::string& path, TrainingConfig* t);
  void ReadBatch(const Node& node, const std::string& path, SftStage* s);
  void ReadParamPatterns(const Node& node, const std::string& path, TrainingConfig* t);
  void ReadWeightDecay(const Node& node, const std::string& path, TrainingConfig* s);

  const Node& root_;
  std::vector<std::string>& errors_;
  PipelineConfig config_;
  References references_;
};

}  // namespace retort::host
