// Reward chains of the C edge.
// SPDX-License-Identifier: Apache-2.0
#include "host/chain/reward_chain.h"

#include <memory>
#include <utility>
#include <vector>

#include "host/commands/chain_lines.h"
#include "host/library/chain.h"
#include "host/library/edge.h"
#include "host/library/samples.h"

namespace retort::host {
namespace {

// The chain and the table that its last call filled.
struct RewardObject {
  ChainSettings settings;
  RewardChain chain;
  RewardTable table = {};
  std::vector<double> weights = {};
  std::vector<retort_str> names = {}, info = {}, error = {};
  std::vector<uint8_t> status = {};

  Status Score(ContextState& state, const retort_sample* samples, uint32_t stride, uint64_t n) {
    RETORT_ASSIGN_OR_RETURN(const std::vector<data::Sample> read, ReadSamples(samples, stride, n));
    RETORT_ASSIGN_OR_RETURN(table, chain.Score(read, CallOf(state, settings)));
    names.clear();
    for (const std::string& name : chain.names()) names.push_back(ToStr(name));
    weights = chain.weights();
    status.clear();
    info.clear();
    error.clear();
    for (size_t i = 0; i < table.status.size(); ++i) {
      status.push_back(static_cast<uint8_t>(table.status[i]));
      info.push_back(OptionalStr(table.info[i]));
      error.push_back(OptionalStr(table.error[i]));
    }
    return OkStatus();
  }

  retort_score_table View() const {
    retort_score_table view{};
    view.n_samples = table.n_samples;
    view.n_rewards = table.n_rewards;
    view.names = names.data();
    view.weights = weights.data();
    view.scores = table.score.data();
    view.status = status.data();
    view.reward = table.reward.data();
    view.info = info.data();
    view.error = error.data();
    view.first_equal = table.first_equal.empty() ? nullptr : table.first_equal.data();
    return view;
  }
};

}  // namespace
}  // namespace retort::host

using retort::Status;
using retort::host::ContextState;
using retort::host::Guard;
using retort::host::RewardObject;

struct retort_reward_chain {
  std::shared_ptr<ContextState> state;
  std::shared_ptr<RewardObject> object;
};

namespace {

Status Create(retort_context& context, const retort_chain_options* options,
              retort_reward_chain** out) {
  RETORT_ASSIGN_OR_RETURN(retort::host::ChainSettings settings,
                          retort::host::ReadChainSettings(context, options, "score"));
  RETORT_ASSIGN_OR_RETURN(
      retort::host::RewardChain chain,
      retort::host::RewardChain::Create(context.state->session, settings.entries.root(),
                                        settings.key, "rewards"));
  auto object = std::make_shared<RewardObject>(std::move(settings), std::move(chain));
  *out = std::make_unique<retort_reward_chain>(context.state, std::move(object)).release();
  return {};
}

}  // namespace

extern "C" {

retort_status retort_reward_chain_create(retort_context* context,
                                         const retort_chain_options* options,
                                         retort_reward_chain** out) {
  if (out != nullptr) *out = nullptr;
  if (context == nullptr || out == nullptr) return RETORT_INVALID_ARGUMENT;
  return retort::host::RunCall(std::shared_ptr(context->state),
                               [&] { return Create(*context, options, out); });
}

void retort_reward_chain_destroy(retort_reward_chain* chain) {
  (void)Guard([&]() -> Status {
    const std::unique_ptr<retort_reward_chain> owner(chain);
    return {};
  });
}

retort_status retort_reward_chain_score(retort_reward_chain* chain, const retort_sample* samples,
                                        uint32_t sample_stride, uint64_t n,
                                        retort_score_table* out) {
  if (chain == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = chain->state;
  const auto object = chain->object;
  return retort::host::RunStoppableCall(state, [&]() -> Status {
    const char* const name = "retort_score_table";
    RETORT_RETURN_IF_ERROR(retort::host::WriteStruct(retort_score_table{}, name, out));
    RETORT_RETURN_IF_ERROR(object->Score(*state, samples, sample_stride, n));
    return retort::host::WriteStruct(object->View(), name, out);
  });
}

retort_status retort_reward_chain_score_lines(retort_reward_chain* chain,
                                              const retort_reader* jsonl, const retort_sink* out) {
  if (chain == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = chain->state;
  const auto object = chain->object;
  return retort::host::RunStoppableCall(state, [&]() -> Status {
    retort::host::LinePipe pipe(jsonl, out);
    RETORT_RETURN_IF_ERROR(pipe.Check());
    const retort_command_io raw = pipe.Io();
    retort::host::CommandIo io(&raw);
    return pipe.Outcome(
        retort::host::ScoreLines(object->chain, retort::host::InputLines::FromIo(io, "jsonl"),
                                 retort::host::CallOf(*state, object->settings), io));
  });
}

retort_status retort_reward_chain_finish(retort_reward_chain* chain) {
  if (chain == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto object = chain->object;
  return retort::host::RunCall(std::shared_ptr(chain->state),
                               [&] { return object->chain.Finish(); });
}

}  // extern "C"
