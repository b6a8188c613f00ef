// SPDX-License-Identifier: Apache-2.0
#include "host/check/samples.h"

#include <numeric>
#include <utility>

#include "core/json/json.h"

namespace retort::host::check {
namespace {

constexpr size_t kLongBytes = size_t{10} << 20;

std::string Completion(Rng& rng, int64_t answer) {
  static constexpr const char* kSteps[] = {"First we add the two numbers.\n",
                                           "So the total is larger than both.\n",
                                           "Let x be the price; then 3x = 12 \xE2\x87\x92 x = 4.\n",
                                           "Wait, let me check that again.\n",
                                           "Das ergibt \xE2\x82\xAC 7,50.\n",
                                           "\xE6\x89\x80\xE4\xBB\xA5\xE7\xAD\x94\xE6\xA1\x88\n"};
  const uint64_t shape = rng.Below(5);
  std::string text = shape == 0 ? "" : "<think>\n";
  for (uint64_t n = 1 + rng.Below(4); n-- > 0;) text += kSteps[rng.Below(std::size(kSteps))];
  if (shape == 1) return text;  // cut while it thinks
  const std::string number = std::to_string(answer);
  if (shape != 0) text += "\n</think>\n<answer>\n";
  text += shape == 2 ? "\\boxed{" + number + "}" : "The answer is " + number + ".";
  if (shape != 0) text += "\n</answer>";
  return text;
}

std::string RecordOf(uint64_t uid, const std::string& question, const std::string& gold) {
  json::Writer out;
  out.BeginObject().Field("id", uid).Field("question", question).Field("answer", gold);
  return out.EndObject().Take();
}

std::vector<int32_t> Ids(Rng& rng, size_t n) {
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.Below(1000));
  return ids;
}

std::optional<std::string> OddText(Odd odd, size_t turn) {
  switch (odd) {
    case Odd::kEmpty: return "";
    case Odd::kAbsent: return std::nullopt;
    case Odd::kNul: return std::string("a\0b\0\0 4\0", 8);
    case Odd::kBrokenUtf8: {
      static constexpr const char* kBroken[] = {"\xFF\xFE", "cut \xE2\x82", "\xC0\xAF",
                                                "\xED\xA0\x80", "\x80\x80 7 \xF5"};
      return kBroken[turn % std::size(kBroken)];
    }
    case Odd::kLong: {
      std::string text = "<think>\n";
      while (text.size() < kLongBytes) text += "and then 12 plus 30 makes 42, which is not it. ";
      return text + "\n</think>\n<answer>\n42\n</answer>";
    }
  }
  return "";
}

}  // namespace

std::vector<CheckGroup> OrdinaryGroups(const Subject& subject, size_t n_groups, size_t group_size) {
  Rng rng = subject.Random("samples");
  std::vector<CheckGroup> groups(n_groups);
  for (size_t g = 0; g < n_groups; ++g) {
    const auto gold = static_cast<int64_t>(rng.Below(100));
    const std::string question = "What is " + std::to_string(gold) + " + 0?";
    for (size_t i = 0; i < group_size; ++i) {
      CheckSample s;
      s.prompt = "<|user|>\n" + question + "\n<|assistant|>\n";
      const bool right = rng.Below(2) == 0;
      s.completion = Completion(rng, right ? gold : static_cast<int64_t>(rng.Below(100)));
      s.gold = std::to_string(gold);
      s.record_uid = 1000 + g;
      s.record = RecordOf(s.record_uid, question, *s.gold);
      s.prompt_ids = Ids(rng, 8);
      s.completion_ids = Ids(rng, 4 + rng.Below(60));
      for (size_t t = 0; t < s.completion_ids.size(); ++t) {
        s.logp.push_back(static_cast<float>(-3.0 * rng.Uniform()));
      }
      s.uid = (1000 + g) * 64 + i;
      s.index = static_cast<uint32_t>(i);
      s.finish = rng.Below(4) == 0 ? RETORT_FINISH_LENGTH : RETORT_FINISH_STOP;
      groups[g].push_back(std::move(s));
    }
  }
  return groups;
}

std::vector<CheckGroup> OddGroups(const Subject& subject, Odd odd) {
  std::vector<CheckGroup> groups = OrdinaryGroups(subject, odd == Odd::kLong ? 1 : 5, 2);
  for (size_t g = 0; g < groups.size(); ++g) {
    CheckSample& s = groups[g][1];
    s.completion = OddText(odd, g);
    if (odd == Odd::kLong) continue;
    s.prompt = OddText(odd, g + 1);
    s.gold = OddText(odd, g + 2);
    // A record that is there is a JSON object.
    if (odd == Odd::kAbsent) s.record.reset();
    if (odd == Odd::kEmpty) s.record = "{}";
    if (odd == Odd::kEmpty || odd == Odd::kAbsent) {
      s.completion_ids.clear();
      s.logp.clear();
    }
  }
  return groups;
}

RawSamples::RawSamples(const std::vector<CheckGroup>& groups, bool with_ids, size_t stride_extra) {
  std::vector<retort_sample> samples;
  for (size_t g = 0; g < groups.size(); ++g) {
    const uint64_t record_uid = groups[g].empty() ? 0 : groups[g][0].record_uid;
    groups_.push_back({samples.size(), groups[g].size(), record_uid});
    for (const CheckSample& s : groups[g]) {
      retort_sample raw{};
      raw.prompt = Text(s.prompt);
      raw.completion = Text(s.completion);
      raw.record = Text(s.record);
      raw.gold = Text(s.gold);
      if (with_ids) {
        raw.prompt_ids = Numbers(s.prompt_ids);
        raw.completion_ids = Numbers(s.completion_ids);
        raw.logp = Numbers(s.logp);
        raw.n_prompt_ids = static_cast<uint32_t>(s.prompt_ids.size());
        raw.n_completion_ids = static_cast<uint32_t>(s.completion_ids.size());
      }
      raw.uid = s.uid;
      raw.record_uid = s.record_uid;
      raw.group = static_cast<uint32_t>(g);
      raw.index = s.index;
      raw.finish = s.finish;
      samples.push_back(raw);
    }
  }
  n_ = samples.size();
  array_.emplace(samples, stride_extra);
}

retort_str RawSamples::Text(const std::optional<std::string>& text) {
  if (!text.has_value()) return {nullptr, 0};
  memory_.emplace_back(std::string_view(*text));
  memory_.back().MakeReadOnly();
  return memory_.back().str();
}

template <class T>
const T* RawSamples::Numbers(const std::vector<T>& values) {
  memory_.emplace_back(
      std::string_view(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)));
  memory_.back().MakeReadOnly();
  return reinterpret_cast<const T*>(memory_.back().data());
}

std::vector<size_t> RandomOrder(Rng rng, size_t n) {
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[rng.Below(i)]);
  return order;
}

std::vector<CheckGroup> InOrder(const std::vector<CheckGroup>& groups,
                                const std::vector<size_t>& order) {
  std::vector<CheckGroup> out;
  for (const size_t from : order) out.push_back(groups[from]);
  return out;
}

}  // namespace retort::host::check
