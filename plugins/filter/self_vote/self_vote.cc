// Self-consistency: where the largest class of equal answers holds at least `threshold` of a
// group's samples, keeps the picked sample of that class. A sample without an answer counts in the
// group's size and is never kept.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "retort/sdk/filter.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Decision;
using retort::sdk::Failure;
using retort::sdk::Group;

enum class Pick : uint8_t { kFirst, kShortest, kLogprob, kAll };

Pick PickOf(std::string_view name) {
  if (name == "first") return Pick::kFirst;
  if (name == "shortest") return Pick::kShortest;
  if (name == "logprob") return Pick::kLogprob;
  return Pick::kAll;
}

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.8,
                  "description": "least share of the group that must give the same answer"},
    "pick": {"type": "string", "enum": ["first", "shortest", "logprob", "all"], "default": "first",
             "description": "which of the agreeing samples is kept; logprob: the highest mean"}
  }
})";

class SelfVote {
 public:
  explicit SelfVote(const retort::sdk::Config& config)
      : threshold_(config.Double("threshold")), pick_(PickOf(config.String("pick"))) {}

  // Log-probabilities come with the ids, which only this pick is worth asking for.
  uint32_t Flags() const {
    return RETORT_FILTER_CONCURRENT | RETORT_FILTER_NEEDS_ANSWERS |
           (pick_ == Pick::kLogprob ? RETORT_FILTER_NEEDS_IDS : 0);
  }

  void JudgeGroup(const Call&, const Group& group) {
    if (!group.has_answers()) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "self_vote needs a reward with answer classes (number_match, say) in the "
                    "\"rewards\" of its chain entry");
    }
    const std::vector<size_t> winners = LargestClass(group);
    // Exact for counts: the tolerance is below 1 / n for any group in reach.
    const bool agreed = !winners.empty() && static_cast<double>(winners.size()) + 1e-9 >=
                                                threshold_ * static_cast<double>(group.size());
    const size_t picked = agreed ? PickFrom(group, winners) : 0;
    size_t next = 0;
    for (size_t i = 0; i < group.size(); ++i) {
      const bool wins = next < winners.size() && winners[next] == i;
      if (wins) ++next;
      group.Decide(i, Judge(group, i, agreed, wins, picked));
    }
  }

 private:
  Decision Judge(const Group& group, size_t i, bool agreed, bool wins, size_t picked) const {
    if (group.first_equal(i) < 0) return Decision::Drop("no answer");
    if (!agreed) return Decision::Drop("no agreement");
    if (!wins) return Decision::Drop("not the majority's answer");
    if (pick_ != Pick::kAll && i != picked) return Decision::Drop("agrees, but another was picked");
    return Decision::Keep();
  }

  // Its samples in order; ties go to the class that appears first.
  static std::vector<size_t> LargestClass(const Group& group) {
    std::vector<size_t> count(group.size(), 0);
    for (size_t i = 0; i < group.size(); ++i) {
      if (group.first_equal(i) >= 0) ++count[static_cast<size_t>(group.first_equal(i))];
    }
    size_t best = 0;
    for (size_t i = 1; i < count.size(); ++i) {
      if (count[i] > count[best]) best = i;
    }
    std::vector<size_t> members;
    for (size_t i = 0; i < group.size(); ++i) {
      if (group.first_equal(i) == static_cast<int64_t>(best)) members.push_back(i);
    }
    return members;
  }

  size_t PickFrom(const Group& group, const std::vector<size_t>& members) const {
    size_t best = members.front();
    if (pick_ == Pick::kFirst || pick_ == Pick::kAll) return best;
    double best_value = -std::numeric_limits<double>::infinity();
    for (const size_t i : members) {
      const double value = pick_ == Pick::kShortest
                               ? -static_cast<double>(group[i].completion().size())
                               : MeanLogp(group, i);
      if (value > best_value) {
        best = i;
        best_value = value;
      }
    }
    return best;
  }

  static double MeanLogp(const Group& group, size_t i) {
    const retort_sample& s = group[i].raw();
    if (s.logp == nullptr || s.n_completion_ids == 0) {
      throw Failure(RETORT_FAILED_PRECONDITION,
                    "pick \"logprob\" needs samples with log-probabilities; use \"first\" or "
                    "\"shortest\"");
    }
    double sum = 0;
    for (uint32_t t = 0; t < s.n_completion_ids; ++t) sum += double{s.logp[t]};
    return sum / s.n_completion_ids;
  }

  double threshold_;
  Pick pick_;
};

RETORT_FILTER("self_vote", SelfVote, "keeps a sample of the answer that most of a group give",
              kSchema);

}  // namespace
