// Filters in C++: a class with one of
//   Decision Judge(const Call&, const Sample&)     one sample at a time
//   void JudgeGroup(const Call&, const Group&)     all samples of a prompt: scores, answers
// optionally `static constexpr uint32_t kFlags` or `uint32_t Flags() const` (RETORT_FILTER_*), and,
// to look at everything first, `static constexpr uint32_t kPasses` with
//   void Observe(const Call&, uint32_t pass, const Group&), void EndPass(const Call&, uint32_t),
//   std::string Save() const, void Merge(std::string_view state)
// then one line: RETORT_FILTER("my_filter", MyFilter, "one line for people", kSchema);
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_FILTER_H_
#define RETORT_SDK_FILTER_H_

#include <limits>
#include <string>

#include "retort/abi/filter.h"
#include "retort/sdk/plugin.h"
#include "retort/sdk/reward.h"
#include "retort/sdk/stream.h"

namespace retort::sdk {

struct Decision {
  uint32_t action = RETORT_KEEP;
  std::string reason = {};
  std::string completion = {};  // REWRITE: the new text
  uint32_t reason_code = 0;
  double quality = std::numeric_limits<double>::quiet_NaN();

  static Decision Keep() { return {}; }
  static Decision Drop(std::string reason) { return {RETORT_DROP, std::move(reason)}; }
  static Decision Rewrite(std::string completion, std::string reason) {
    return {RETORT_REWRITE, std::move(reason), std::move(completion)};
  }
  static Decision Error(std::string why) { return {RETORT_ERROR, std::move(why)}; }
};

// The samples of one prompt with what the host found out about them.
class Group {
 public:
  Group(const retort_filter_args& args, const retort_group& group)
      : args_(&args),
        first_(group.first),
        n_(group.n),
        record_uid_(group.record_uid),
        samples_(args.samples, args.sample_stride, args.n_samples) {}

  size_t size() const { return n_; }
  uint64_t record_uid() const { return record_uid_; }
  Sample operator[](size_t i) const { return samples_[first_ + i]; }

  size_t n_rewards() const { return args_->n_rewards; }
  const char* reward_name(size_t k) const { return args_->reward_names[k]; }
  double weight(size_t k) const {
    return args_->reward_weights == nullptr ? 1 : args_->reward_weights[k];
  }
  bool measured(size_t i, size_t k) const { return status(i, k) == RETORT_SCORE_OK; }
  uint8_t status(size_t i, size_t k) const { return args_->score_status[Cell(i, k)]; }
  double score(size_t i, size_t k) const { return args_->scores[Cell(i, k)]; }
  bool has_answers() const { return args_->first_equal != nullptr; }
  int64_t first_equal(size_t i) const { return args_->first_equal[first_ + i]; }  // -1: no answer

  void Decide(size_t i, const Decision& d) const {
    const retort_decision raw = {
        .struct_size = sizeof(retort_decision),
        .flags = 0,
        .action = d.action,
        .reason_code = d.reason_code,
        .quality = d.quality,
        .reason = ToStr(d.reason),
        .completion = d.action == RETORT_REWRITE ? ToStr(d.completion) : retort_str{nullptr, 0},
        .record = {nullptr, 0}};
    args_->decide(args_->out_ctx, first_ + i, &raw);
  }

 private:
  size_t Cell(size_t i, size_t k) const { return (first_ + i) * args_->n_rewards + k; }
  const retort_filter_args* args_;
  uint64_t first_, n_, record_uid_;
  Samples samples_;
};

namespace internal {

template <class T>
concept JudgesOne = requires(T t, const Call& c, const Sample& s) {
  { t.Judge(c, s) } -> std::convertible_to<Decision>;
};

template <class Fn>
void ForEachGroup(const Call& call, const retort_filter_args& args, Fn&& fn) {
  const char* p = reinterpret_cast<const char*>(args.groups);
  for (uint64_t g = 0; g < args.n_groups; ++g, p += args.group_stride) {
    call.ThrowIfCancelled();
    fn(Group(args, *reinterpret_cast<const retort_group*>(p)));
  }
}

template <class T>
class FilterInstance final : public Instance {
 public:
  explicit FilterInstance(const Config& config) : filter_(config) {
    table_.struct_size = sizeof(table_);
    table_.judge = Judge;
    if constexpr (requires { T::kFlags; }) table_.flags = T::kFlags;
    if constexpr (requires(const T& t) { t.Flags(); }) table_.flags = filter_.Flags();
    if constexpr (requires { T::kPasses; }) {
      table_.n_observe_passes = T::kPasses;
      table_.observe = Observe;
      table_.end_pass = EndPass;
      table_.save = Save;
      table_.merge = Merge;
    }
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_FILTER_INTERFACE ? &table_ : nullptr;
  }

 private:
  static T& Of(retort_instance* p) { return static_cast<FilterInstance&>(Instance::Of(p)).filter_; }
  static retort_status Judge(retort_instance* p, const retort_call* raw,
                             const retort_filter_args* args) noexcept {
    return Guard(raw, [&] {
      const Call call(raw);
      ForEachGroup(call, *args, [&](const Group& group) {
        if constexpr (JudgesOne<T>) {
          for (size_t i = 0; i < group.size(); ++i) {
            const auto judge = [&]() -> Decision { return Of(p).Judge(call, group[i]); };
            group.Decide(i, Attempt(judge, [](std::string_view why) {
                           return Decision::Error(std::string(why));
                         }));
          }
        } else {
          Of(p).JudgeGroup(call, group);
        }
      });
    });
  }
  static retort_status Observe(retort_instance* p, const retort_call* raw,
                               const retort_filter_args* args) noexcept {
    return Guard(raw, [&] {
      const Call call(raw);
      ForEachGroup(call, *args,
                   [&](const Group& group) { Of(p).Observe(call, args->pass, group); });
    });
  }
  static retort_status EndPass(retort_instance* p, const retort_call* raw, uint32_t pass) noexcept {
    return Guard(raw, [&] { Of(p).EndPass(Call(raw), pass); });
  }
  static retort_status Save(retort_instance* p, const retort_call* raw,
                            const retort_sink* sink) noexcept {
    return Guard(raw, [&] { WriteAll(*sink, Of(p).Save()); });
  }
  static retort_status Merge(retort_instance* p, const retort_call* raw,
                             const retort_reader* reader) noexcept {
    return Guard(raw, [&] { Of(p).Merge(ReadAll(*reader)); });
  }

  T filter_;
  retort_filter_v1 table_{};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_FILTER(ID, CLASS, SUMMARY, SCHEMA)                                             \
  RETORT_SDK_REGISTER(RETORT_KIND_FILTER, ID, ::retort::sdk::internal::FilterInstance<CLASS>, \
                      SUMMARY, SCHEMA)

#endif  // RETORT_SDK_FILTER_H_
