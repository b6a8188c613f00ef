// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/repeat.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "host/pipeline/config/read.h"
#include "host/pipeline/config/schema_parts.h"

namespace retort::host {
namespace {

using enum KeyKind;

constexpr double kMostRounds = 100;
constexpr int64_t kMostValues = 1'000'000;  // of all rounds: a bound on what a small file can ask

// Keys whose texts may name a stage.
bool IsReferenceKey(std::string_view key) {
  static constexpr std::array<std::string_view, 7> kKeys = {
      "model", "models", "teacher", "reference", "tokenizer", "data", "eval_data"};
  return std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

int64_t CountValues(const Node& node) {
  int64_t n = 1;
  for (const Node& item : node.items) n += CountValues(item);
  for (const Member& member : node.members) n += CountValues(member.value);
  return n;
}

// Calls change(text) for every text of a stage that may be a reference.
template <class Change>
void ForReferences(Node& node, bool is_reference, const Change& change) {
  if (node.type == json::Type::kString && is_reference) change(node);
  for (Node& item : node.items) ForReferences(item, is_reference, change);
  for (Member& member : node.members) {
    if (member.key != "config") {
      ForReferences(member.value, IsReferenceKey(member.key), change);
    }
  }
}

std::string FullName(const std::string& repeat, int64_t round, std::string_view stage) {
  return repeat + "." + std::to_string(round) + "." + std::string(stage);
}

// The body of one repeat stage, written out round by round.
class Rounds {
 public:
  Rounds(const Node& repeat, std::vector<std::string>* errors)
      : name_(StringAt(repeat, "name")), body_(*repeat.Find("stages")), errors_(*errors) {
    for (const Node& stage : body_.items) names_.insert(StringAt(stage, "name"));
  }

  void AppendRound(int64_t round, std::vector<Node>* out) {
    round_ = round;
    for (const Node& stage : body_.items) {
      Node copy = stage;
      Resolve(&copy, "stages." + name_ + ".stages." + StringAt(stage, "name"), false, round);
      Node* name = copy.Find("name");
      name->text = FullName(name_, round, name->text);
      out->push_back(std::move(copy));
    }
  }

 private:
  void Fail(const Node& node, const std::string& path, const std::string& rule) {
    if (round_ == 1) errors_.push_back(node.where.Text() + ": " + path + ": " + rule);
  }

  // What a value is in this round; references are to stages of round `of`.
  void Resolve(Node* node, const std::string& path, bool is_reference, int64_t of) {
    if (node->Find("first") != nullptr || node->Find("then") != nullptr) {
      return Choose(node, path, is_reference, of);
    }
    if (is_reference && node->type == json::Type::kString) return Rename(node, of);
    std::vector<Node> items;
    if (is_reference && node->Find("all") != nullptr) {  // in the place of a list
      AppendAll(*node, *node->Find("all"), path, of, &items);
      *node = {.type = json::Type::kArray, .items = std::move(items), .where = node->where};
      return;
    }
    for (Node& item : node->items) AppendItem(item, path, is_reference, of, &items);
    node->items = std::move(items);
    for (Member& member : node->members) {
      if (member.key == "config") continue;
      Resolve(&member.value, path + "." + member.key, IsReferenceKey(member.key), of);
    }
  }

  void Choose(Node* node, const std::string& path, bool is_reference, int64_t of) {
    if (node->members.size() != 2 || node->Find("first") == nullptr ||
        node->Find("then") == nullptr) {
      return Fail(*node, path, "a choice by the round has \"first\" and \"then\", nothing else");
    }
    Node chosen = std::move(*node->Find(round_ == 1 ? "first" : "then"));
    *node = std::move(chosen);
    Resolve(node, path, is_reference, round_ == 1 ? of : of - 1);
  }

  void AppendItem(Node& item, const std::string& path, bool is_reference, int64_t of,
                  std::vector<Node>* out) {
    const Node* all = item.Find("all");
    if (is_reference && all != nullptr) return AppendAll(item, *all, path, of, out);
    const Node* first = item.Find("first");
    const bool absent = round_ == 1 && first != nullptr && first->type == json::Type::kNull;
    Resolve(&item, path, is_reference, of);
    if (!absent) out->push_back(std::move(item));
  }

  void AppendAll(const Node& item, const Node& all, const std::string& path, int64_t of,
                 std::vector<Node>* out) {
    const bool is_stage = all.type == json::Type::kString && all.text.starts_with("@") &&
                          names_.count(all.text.substr(1)) > 0;
    if (!is_stage || item.members.size() != 1) {
      return Fail(item, path,
                  "\"all\" stands alone and names a stage of this repeat, as {\"all\": \"@" +
                      (names_.empty() ? "stage" : *names_.begin()) + "\"}");
    }
    for (int64_t round = 1; round <= of; ++round) {
      Node& one = out->emplace_back(all);
      Rename(&one, round);
    }
  }

  void Rename(Node* node, int64_t of) {
    if (!node->text.starts_with("@") || names_.count(node->text.substr(1)) == 0) return;
    node->text = "@" + FullName(name_, of, node->text.substr(1));
  }

  const std::string name_;
  const Node& body_;
  std::vector<std::string>& errors_;
  std::set<std::string> names_;
  int64_t round_ = 0;
};

class Expansion {
 public:
  Expansion(Node& root, ValidateContext* context) : root_(root), context_(*context) {}

  std::vector<std::string> Run() {
    Node* stages = root_.Find("stages");
    if (stages == nullptr) return {};
    if (stages->type == json::Type::kObject) {  // a list of one
      Node one = std::exchange(*stages, Node{});
      stages->type = json::Type::kArray;
      stages->where = one.where;
      stages->items.push_back(std::move(one));
    }
    for (const Node& stage : stages->items) CheckName(stage, "stages.");
    std::vector<Node> all;
    for (Node& stage : stages->items) {
      if (StringAt(stage, "kind") == "repeat") {
        Expand(stage, &all);
      } else {
        all.push_back(std::move(stage));
      }
    }
    for (Node& stage : all) {
      ForReferences(stage, false, [&](Node& reference) { NameLastRound(&reference); });
    }
    stages->items = std::move(all);
    std::vector<std::string> repeats;
    for (const auto& [name, times] : times_) repeats.push_back(name);
    return repeats;
  }

 private:
  void Fail(const Node& node, const std::string& path, const std::string& rule) {
    context_.errors.push_back(node.where.Text() + ": " + path + ": " + rule);
  }

  // Stages without a name, or one that is no text, are the validator's.
  void CheckName(const Node& stage, const std::string& place) {
    const Node* name = stage.Find("name");
    if (name == nullptr || name->type != json::Type::kString) return;
    const std::string path = place + name->text;
    if (!IsStageName(name->text)) {
      Fail(*name, path, "a stage's name has letters, digits, '_' and '-', at most 64");
    } else if (!names_.insert(name->text).second) {
      Fail(*name, path, "there is an earlier stage of this name");
    }
  }

  void Expand(Node& repeat, std::vector<Node>* all) {
    const std::string path = "stages." + StringAt(repeat, "name");
    const size_t before = context_.errors.size();
    Validate(repeat, RepeatSpec(), path, &context_);
    if (context_.errors.size() != before) return;
    for (const Node& stage : repeat.Find("stages")->items) CheckBody(stage, path + ".stages.");
    const int64_t times = IntAt(repeat, "times");
    if (CountValues(repeat) * times > kMostValues) {
      Fail(*repeat.Find("times"), path + ".times",
           "all rounds together have more than " + std::to_string(kMostValues) +
               " values; repeat less often or shorten the body");
    }
    if (context_.errors.size() != before) return;
    times_[StringAt(repeat, "name")] = times;
    Rounds rounds(repeat, &context_.errors);
    for (int64_t round = 1; round <= times; ++round) rounds.AppendRound(round, all);
  }

  void CheckBody(const Node& stage, const std::string& place) {
    const Node* name = stage.Find("name");
    if (name == nullptr || name->type != json::Type::kString) {
      return Fail(stage, place + "name", "is needed by a stage: it names it and its folders");
    }
    CheckName(stage, place);
    if (StringAt(stage, "kind") != "repeat") return;
    Fail(*stage.Find("kind"), place + name->text + ".kind",
         "a repeat can't stand in a repeat; write the inner stages one after the other");
  }

  // "@rounds.sft" to "@rounds.3.sft".
  void NameLastRound(Node* reference) {
    if (!reference->text.starts_with("@")) return;
    const std::string name = reference->text.substr(1);
    const size_t dot = name.find('.');
    const auto found = times_.find(name.substr(0, dot));
    if (found == times_.end()) return;
    if (dot == std::string::npos) {
      Fail(*reference, "'@" + name + "'",
           "is a repeat: name one of its stages, of the last round as '@" + name +
               ".STAGE', of another one as '@" + name + ".1.STAGE'");
    } else if (name.find('.', dot + 1) == std::string::npos) {
      reference->text = "@" + FullName(found->first, found->second, name.substr(dot + 1));
    }
  }

  Node& root_;
  ValidateContext& context_;
  std::set<std::string> names_;
  std::map<std::string, int64_t> times_;  // of the repeat stages
};

std::string InFirstRound(std::string text, const std::string& repeat) {
  const std::string start = repeat + ".";
  for (size_t at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) {
    const size_t begin = at + start.size(), end = text.find_first_not_of("0123456789", begin);
    if (end == std::string::npos || end == begin || text[end] != '.') continue;
    text.replace(begin, end - begin, "1");
  }
  return text;
}

}  // namespace

bool IsStageName(std::string_view name) {
  const auto fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), fine);
}

const ObjectSpec& RepeatSpec() {
  static const ObjectSpec spec = {
      .title = "a repeat stage",
      .keys = {NameKey(),
               KindKey(),
               {.name = "times",
                .kind = kInt,
                .summary = "rounds that are run one after the other",
                .required = true,
                .min = 1,
                .max = kMostRounds},
               {.name = "stages",
                .kind = kList,
                .summary = "of each round, in order; none is a repeat itself",
                .required = true,
                .item = kRaw}}};
  return spec;
}

std::vector<std::string> ExpandRepeats(Node& root, ValidateContext* context) {
  return Expansion(root, context).Run();
}

std::vector<std::string> WithoutLaterRounds(const std::vector<std::string>& errors,
                                            const std::vector<std::string>& repeats) {
  std::vector<std::string> kept;
  std::set<std::string> seen;
  for (const std::string& error : errors) {
    std::string first = error;
    for (const std::string& repeat : repeats) first = InFirstRound(std::move(first), repeat);
    if (seen.insert(first).second) kept.push_back(error);
  }
  return kept;
}

}  // namespace retort::host
