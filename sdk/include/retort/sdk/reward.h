// Rewards in C++: a class with one of
//   Verdict Score(const Call&, const Sample&)               one sample at a time
//   void ScoreAll(const Call&, const RewardBatch&)          a batch (flags: GROUPWISE and so on)
// optionally `static constexpr uint32_t kFlags` or `uint32_t Flags() const` (RETORT_REWARD_*), and
//   std::optional<std::string> Answer(const Call&, const Sample&)
// whose equal texts are equal answers (interface retort.answer), then one line:
//   RETORT_REWARD("my_reward", MyReward, "one line for people", R"({"type": "object"})");
// Constructors take a const Config&.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_REWARD_H_
#define RETORT_SDK_REWARD_H_

#include <concepts>
#include <map>
#include <optional>
#include <string>

#include "retort/abi/reward.h"
#include "retort/sdk/plugin.h"

namespace retort::sdk {

// A borrowed sample; see retort_sample for units.
class Sample {
 public:
  explicit Sample(const retort_sample& raw) : raw_(&raw) {}
  const retort_sample& raw() const { return *raw_; }
  std::string_view prompt() const { return ToView(raw_->prompt); }
  std::string_view completion() const { return ToView(raw_->completion); }
  std::string_view record() const { return ToView(raw_->record); }
  bool has_gold() const { return raw_->gold.ptr != nullptr; }
  std::string_view gold() const { return ToView(raw_->gold); }
  bool has_ids() const { return raw_->completion_ids != nullptr; }
  std::span<const int32_t> prompt_ids() const { return {raw_->prompt_ids, raw_->n_prompt_ids}; }
  std::span<const int32_t> completion_ids() const {
    return {raw_->completion_ids, raw_->n_completion_ids};
  }
  uint64_t uid() const { return raw_->uid; }
  uint32_t finish() const { return raw_->finish; }

 private:
  const retort_sample* raw_;
};

// Samples at a stride, as the ABI passes them.
class Samples {
 public:
  Samples(const retort_sample* first, uint64_t stride, uint64_t n)
      : first_(reinterpret_cast<const char*>(first)), stride_(stride), n_(n) {}
  size_t size() const { return n_; }
  Sample operator[](size_t i) const {
    return Sample(*reinterpret_cast<const retort_sample*>(first_ + i * stride_));
  }

 private:
  const char* first_;
  uint64_t stride_, n_;
};

// The outcome for one sample. Couldn't measure is not 0: say Error or NotApplicable.
struct Verdict {
  double score = 0;
  uint8_t status = RETORT_SCORE_OK;
  std::string info = {};  // JSON object of extra columns; "": none

  static Verdict Ok(double score, std::string info = "") {
    return {score, RETORT_SCORE_OK, std::move(info)};
  }
  static Verdict NotApplicable(std::string info = "") {
    return {0, RETORT_SCORE_NOT_APPLICABLE, std::move(info)};
  }
  static Verdict Error(std::string_view why) {
    return {0, RETORT_SCORE_ERROR, "{\"error\":" + Quote(why) + "}"};
  }
};

class RewardBatch {
 public:
  explicit RewardBatch(const retort_reward_args& args)
      : args_(&args), samples_(args.samples, args.sample_stride, args.n) {}
  size_t size() const { return args_->n; }
  Sample operator[](size_t i) const { return samples_[i]; }
  void Set(size_t i, const Verdict& v) const {
    args_->status[i] = v.status;
    if (v.status == RETORT_SCORE_OK) args_->score[i] = v.score;
    if (!v.info.empty() && args_->info != nullptr) args_->info(args_->info_ctx, i, ToStr(v.info));
  }

 private:
  const retort_reward_args* args_;
  Samples samples_;
};

namespace internal {

template <class T>
concept ScoresOne = requires(T t, const Call& c, const Sample& s) {
  { t.Score(c, s) } -> std::convertible_to<Verdict>;
};
template <class T>
concept HasAnswer = requires(T t, const Call& c, const Sample& s) {
  { t.Answer(c, s) } -> std::convertible_to<std::optional<std::string>>;
};

template <class T>
class RewardInstance final : public Instance {
 public:
  explicit RewardInstance(const Config& config) : reward_(config) {
    if constexpr (requires { T::kFlags; }) table_.flags = T::kFlags;
    if constexpr (requires(const T& t) { t.Flags(); }) table_.flags = reward_.Flags();
  }
  const void* GetInterface(std::string_view id) override {
    if (id == RETORT_REWARD_INTERFACE) return &table_;
    if (id == RETORT_ANSWER_INTERFACE && HasAnswer<T>) return &answer_table_;
    return nullptr;
  }

 private:
  static T& Of(retort_instance* p) { return static_cast<RewardInstance&>(Instance::Of(p)).reward_; }
  static retort_status Score(retort_instance* p, const retort_call* raw,
                             const retort_reward_args* args) noexcept {
    return Guard(raw, [&] {
      const Call call(raw);
      const RewardBatch batch(*args);
      if constexpr (ScoresOne<T>) {
        for (size_t i = 0; i < batch.size(); ++i) {
          call.ThrowIfCancelled();
          const auto score = [&]() -> Verdict { return Of(p).Score(call, batch[i]); };
          batch.Set(i, Attempt(score, [](std::string_view why) { return Verdict::Error(why); }));
        }
      } else {
        Of(p).ScoreAll(call, batch);
      }
    });
  }
  static retort_status Classes(retort_instance* p, const retort_call* raw,
                               const retort_sample* samples, uint64_t stride, uint64_t n,
                               int64_t* first_equal) noexcept {
    return Guard(raw, [&] {
      if constexpr (HasAnswer<T>) {
        std::map<std::string, int64_t, std::less<>> first;
        const Samples all(samples, stride, n);
        for (size_t i = 0; i < n; ++i) {
          const std::optional<std::string> answer = Of(p).Answer(Call(raw), all[i]);
          first_equal[i] =
              answer ? first.try_emplace(*answer, static_cast<int64_t>(i)).first->second : -1;
        }
      }
    });
  }

  T reward_;
  retort_reward_v1 table_ = {sizeof(retort_reward_v1), 0, 0, Score};
  retort_answer_v1 answer_table_ = {sizeof(retort_answer_v1), 0, Classes};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_REWARD(ID, CLASS, SUMMARY, SCHEMA)                                             \
  RETORT_SDK_REGISTER(RETORT_KIND_REWARD, ID, ::retort::sdk::internal::RewardInstance<CLASS>, \
                      SUMMARY, SCHEMA)

#endif  // RETORT_SDK_REWARD_H_
