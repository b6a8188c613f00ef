// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/kept_rollouts.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/hash.h"
#include "core/io/jsonl.h"
#include "core/json/json.h"

namespace retort::host {
namespace {

constexpr const char* kMark = "retort_rollouts";  // of the last line: the format's version
constexpr int64_t kVersion = 1;
constexpr std::string_view kStem = "step-", kEnding = ".jsonl";

// The step in the name of a round's file; -1: it has another name, as half a file has.
int64_t StepOf(std::string_view name) {
  if (!name.ends_with(kEnding)) return -1;
  name.remove_prefix(kStem.size());
  name.remove_suffix(kEnding.size());
  int64_t step = -1;
  const auto read = std::from_chars(name.begin(), name.end(), step);
  return read.ec == std::errc() && read.ptr == name.end() ? step : -1;
}

void WriteRow(const char* key, const std::vector<double>& table, size_t n, size_t row,
              json::Writer* writer) {
  writer->Key(key).BeginArray();
  for (size_t c = 0; c < n; ++c) writer->Double(table[row * n + c]);
  writer->EndArray();
}

std::string SampleLine(const data::Sample& sample, const RewardTable& table, size_t row) {
  json::Writer writer;
  writer.BeginObject().Key("sample").Raw(data::SampleToJson(sample));
  writer.Field("reward", table.reward[row]);
  WriteRow("scores", table.score, table.n_rewards, row, &writer);
  if (!table.ungated.empty()) WriteRow("ungated", table.ungated, table.n_rewards, row, &writer);
  return writer.EndObject().Take();
}

std::string LastLine(int64_t step, int64_t position, const Rollouts& rollouts,
                     const std::string& hash) {
  json::Writer writer;
  writer.BeginObject().Field(kMark, kVersion).Field("step", step).Field("position", position);
  writer.Field("next_position", rollouts.position);
  writer.Field("drawn_groups", rollouts.drawn_groups).Field("equal_groups", rollouts.equal_groups);
  writer.Field("generate_seconds", rollouts.generate_seconds);
  writer.Field("reward_seconds", rollouts.reward_seconds).Field("hash", hash);
  return writer.EndObject().Take();
}

class RoundReader {
 public:
  RoundReader(io::JsonlReader lines, size_t group_size, size_t n_rewards)
      : lines_(std::move(lines)), group_size_(group_size), n_rewards_(n_rewards) {}

  Result<Rollouts> Read(int64_t step, int64_t position) {
    while (true) {
      RETORT_ASSIGN_OR_RETURN(const std::optional<json::Document> line, lines_.Next());
      if (!line) return DataLoss("its last line is missing");
      const json::Value root = line->root();
      if (root[kMark]) {
        RETORT_RETURN_IF_ERROR(TakeLast(root, step, position));
        return std::move(out_);
      }
      RETORT_RETURN_IF_ERROR(TakeSample(root));
      hasher_.Update(lines_.text());
      hasher_.Update("\n");
    }
  }

 private:
  Status TakeSample(const json::Value& root) {
    const std::string where = lines_.where();
    RETORT_ASSIGN_OR_RETURN(data::Sample sample,
                            data::SampleFromJson(root["sample"].Dump(), where));
    if (out_.samples.size() % group_size_ == 0) {
      RewardTable& group = out_.rewards.emplace_back();
      group.n_samples = group_size_;
      group.n_rewards = n_rewards_;
    }
    out_.samples.push_back(std::move(sample));
    RewardTable& table = out_.rewards.back();
    RETORT_RETURN_IF_ERROR(AppendNumber(root["reward"], &table.reward));
    RETORT_RETURN_IF_ERROR(AppendRow(root["scores"], &table.score));
    return root["ungated"] ? AppendRow(root["ungated"], &table.ungated) : OkStatus();
  }

  Status TakeLast(const json::Value& root, int64_t step, int64_t position) {
    const bool whole = root[kMark].IntOr(0) == kVersion && root["step"].IntOr(-1) == step &&
                       root["position"].IntOr(-1) == position &&
                       out_.samples.size() % group_size_ == 0 &&
                       root["hash"].StringOr("") == hasher_.Hex();
    if (!whole) return DataLoss(lines_.where() + ": what it says of the lines before isn't so");
    RETORT_ASSIGN_OR_RETURN(out_.position, root["next_position"].AsInt());
    RETORT_ASSIGN_OR_RETURN(out_.drawn_groups, root["drawn_groups"].AsInt());
    RETORT_ASSIGN_OR_RETURN(out_.equal_groups, root["equal_groups"].AsInt());
    out_.generate_seconds = root["generate_seconds"].DoubleOr(0);
    out_.reward_seconds = root["reward_seconds"].DoubleOr(0);
    return OkStatus();
  }

  Status AppendRow(const json::Value& row, std::vector<double>* out) const {
    if (row.size() != n_rewards_) return DataLoss(lines_.where() + ": not a score of each reward");
    for (size_t c = 0; c < n_rewards_; ++c) {
      RETORT_RETURN_IF_ERROR(AppendNumber(row[c], out));
    }
    return OkStatus();
  }
  // null: not measured.
  static Status AppendNumber(const json::Value& value, std::vector<double>* out) {
    out->push_back(std::numeric_limits<double>::quiet_NaN());
    if (value && value.is_null()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(out->back(), value.AsDouble());
    return OkStatus();
  }

  io::JsonlReader lines_;
  size_t group_size_, n_rewards_;
  Rollouts out_;
  Hasher hasher_;  // of the samples' lines
};

}  // namespace

std::string KeptRollouts::PathOf(int64_t step) const {
  return io::Join(folder_, std::string(kStem) + std::to_string(step) + std::string(kEnding));
}

Status KeptRollouts::Write(int64_t step, int64_t position, const Rollouts& rollouts) const {
  RETORT_RETURN_IF_ERROR(fs_.MakeFolders(folder_));
  RETORT_ASSIGN_OR_RETURN(io::DurableFile file, io::DurableFile::Create(fs_, PathOf(step)));
  Hasher hasher;
  for (size_t i = 0; i < rollouts.samples.size(); ++i) {
    const RewardTable& table = rollouts.rewards[i / group_size_];
    const std::string line = SampleLine(rollouts.samples[i], table, i % group_size_) + '\n';
    hasher.Update(line);
    RETORT_RETURN_IF_ERROR(file.Append(line));
  }
  RETORT_RETURN_IF_ERROR(file.Append(LastLine(step, position, rollouts, hasher.Hex()) + '\n'));
  return file.Publish().status();
}

Result<std::optional<Rollouts>> KeptRollouts::Read(int64_t step, int64_t position,
                                                   size_t n_rewards) const {
  const std::string path = PathOf(step);
  RETORT_ASSIGN_OR_RETURN(const bool there, io::IsThere(fs_, path));
  if (!there) return std::optional<Rollouts>();
  RETORT_ASSIGN_OR_RETURN(io::JsonlReader lines, io::JsonlReader::Open(path));
  Result<Rollouts> round =
      RoundReader(std::move(lines), group_size_, n_rewards).Read(step, position);
  if (round.ok()) return std::optional<Rollouts>(std::move(*round));
  if (io::IsOfTheSystem(round.status())) return round.status();
  return DataLoss(path + " is spoiled: " + round.status().message());
}

Status KeptRollouts::Forget(int64_t step) const {
  RETORT_ASSIGN_OR_RETURN(const bool there, io::IsThere(fs_, folder_));
  if (!there) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs_.List(folder_));
  bool empty = true;
  for (const std::string& name : names) {
    if (name.starts_with(kStem) && StepOf(name) < step) {
      RETORT_RETURN_IF_ERROR(fs_.Remove(io::Join(folder_, name)));
    } else {
      empty = false;
    }
  }
  return empty ? fs_.Remove(folder_) : OkStatus();
}

}  // namespace retort::host
