// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/trainer_state.h"

#include <algorithm>
#include <limits>

#include "core/json/json.h"

namespace retort::checkpoint {

namespace {

constexpr std::string_view kEvalPrefix = "eval_";

void WriteEntry(const LogEntry& entry, json::Writer& writer) {
  writer.BeginObject().Field("epoch", entry.epoch);
  if (entry.evaluation.empty()) {
    writer.Field("grad_norm", entry.grad_norm);
    writer.Field("learning_rate", entry.learning_rate).Field("loss", entry.loss);
  }
  EvalNumbers sorted = entry.evaluation;
  std::sort(sorted.begin(), sorted.end());
  for (const auto& [name, value] : sorted) writer.Field(name, value);
  writer.Field("step", entry.step).EndObject();
}

LogEntry ReadEntry(const json::Value& line) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  LogEntry entry = {.step = line["step"].IntOr(0),
                    .epoch = line["epoch"].DoubleOr(kNone),
                    .loss = line["loss"].DoubleOr(kNone),
                    .grad_norm = line["grad_norm"].DoubleOr(kNone),
                    .learning_rate = line["learning_rate"].DoubleOr(kNone)};
  for (size_t i = 0; i < line.size(); ++i) {
    if (!line.key_at(i).starts_with(kEvalPrefix)) continue;
    entry.evaluation.emplace_back(line.key_at(i), line.value_at(i).DoubleOr(kNone));
  }
  return entry;
}

}  // namespace

std::string WriteTrainerState(const TrainerState& state) {
  json::Writer writer(2);
  writer.BeginObject().Key("best_metric");
  state.best_metric ? writer.Double(*state.best_metric) : writer.Null();
  writer.Key("best_model_checkpoint");
  state.best_model_checkpoint.empty() ? writer.Null() : writer.String(state.best_model_checkpoint);
  writer.Field("epoch", state.epoch).Field("global_step", state.global_step);
  writer.Key("log_history").BeginArray();
  for (const LogEntry& entry : state.log_history) WriteEntry(entry, writer);
  writer.EndArray().Field("max_steps", state.max_steps);
  writer.Field("num_input_tokens_seen", state.num_input_tokens_seen);
  writer.Field("num_train_epochs", state.num_train_epochs).Field("total_flos", 0.0);
  writer.Field("train_batch_size", state.train_batch_size).EndObject();
  return writer.Take() + "\n";
}

Result<TrainerState> ReadTrainerState(std::string_view text, const std::string& what) {
  // A long run logs some 10^5 lines of 100 bytes.
  const json::ParseOptions options = {.max_bytes = uint64_t{256} << 20};
  const Result<json::Document> document = json::Document::Parse(text, what, options);
  if (!document.ok()) return DataLoss(document.status().message());
  const json::Value root = document->root();
  if (!root["global_step"].is_number() || !root["log_history"].is_array()) {
    return DataLoss(what + ": lacks global_step or log_history");
  }
  TrainerState state = {.epoch = root["epoch"].DoubleOr(0),
                        .global_step = root["global_step"].IntOr(0),
                        .max_steps = root["max_steps"].IntOr(0),
                        .num_train_epochs = root["num_train_epochs"].IntOr(1),
                        .num_input_tokens_seen = root["num_input_tokens_seen"].IntOr(0),
                        .train_batch_size = root["train_batch_size"].IntOr(1),
                        .log_history = {}};
  const json::Value log = root["log_history"];
  for (size_t i = 0; i < log.size(); ++i) state.log_history.push_back(ReadEntry(log[i]));
  if (root["best_metric"].is_number()) state.best_metric = root["best_metric"].DoubleOr(0);
  state.best_model_checkpoint = std::string(root["best_model_checkpoint"].StringOr(""));
  return state;
}

}  // namespace retort::checkpoint
