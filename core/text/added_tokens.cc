// SPDX-License-Identifier: Apache-2.0
#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/text/unicode.h"

namespace retort::text {

void AddedTokenMatcher::Build(const std::vector<const AddedToken*>& tokens,
                              const std::vector<std::string>& contents) {
  tokens_ = tokens;
  nodes_.clear();
  std::fill(std::begin(first_), std::end(first_), -1);
  for (size_t t = 0; t < tokens.size(); ++t) {
    int32_t node = -1;
    for (char c : contents[t]) {
      const auto byte = static_cast<unsigned char>(c);
      int32_t child = Child(node, byte);
      if (child < 0) {
        child = static_cast<int32_t>(nodes_.size());
        int32_t& head = node < 0 ? first_[byte] : nodes_[static_cast<size_t>(node)].child;
        const int32_t sibling = node < 0 ? -1 : head;
        head = child;
        nodes_.push_back({-1, -1, sibling, byte});
      }
      node = child;
    }
    if (node >= 0) nodes_[static_cast<size_t>(node)].token = static_cast<int32_t>(t);
  }
}

int32_t AddedTokenMatcher::Child(int32_t node, unsigned char byte) const {
  if (node < 0) return first_[byte];
  int32_t child = nodes_[static_cast<size_t>(node)].child;
  while (child >= 0 && nodes_[static_cast<size_t>(child)].byte != byte) {
    child = nodes_[static_cast<size_t>(child)].sibling;
  }
  return child;
}

int32_t AddedTokenMatcher::LongestAt(std::string_view text, size_t at, size_t* length) const {
  int32_t best = -1, node = -1;
  for (size_t i = at; i < text.size(); ++i) {
    node = Child(node, static_cast<unsigned char>(text[i]));
    if (node < 0) break;
    const int32_t token = nodes_[static_cast<size_t>(node)].token;
    if (token < 0) continue;
    best = token;
    *length = i + 1 - at;
  }
  return best;
}

namespace {

bool WordBefore(std::string_view text, size_t at) {
  return at > 0 && IsWordChar(CharAt(text, PreviousChar(text, at)).code_point);
}
bool WordAfter(std::string_view text, size_t at) {
  return at < text.size() && IsWordChar(CharAt(text, at).code_point);
}
size_t SpacesBefore(std::string_view text, size_t at, size_t floor) {
  while (at > floor) {
    const size_t previous = PreviousChar(text, at);
    if ((ClassOf(CharAt(text, previous).code_point) & kSpace) == 0) break;
    at = previous;
  }
  return at;
}
size_t SpacesAfter(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Char c = CharAt(text, at);
    if ((ClassOf(c.code_point) & kSpace) == 0) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace

void AddedTokenMatcher::CutText(std::string_view text, bool plain_special,
                                std::vector<Cut>* cuts) const {
  size_t done = 0;  // everything before is in `cuts`
  for (size_t at = 0; at < text.size();) {
    size_t length = 0;
    const int32_t index =
        first_[static_cast<unsigned char>(text[at])] < 0 ? -1 : LongestAt(text, at, &length);
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = *tokens_[static_cast<size_t>(index)];
    size_t begin = at, end = at + length;
    at = end;  // a match that does not count still hides shorter ones inside it
    if (plain_special && token.special) continue;
    if (token.single_word && (WordBefore(text, begin) || WordAfter(text, end))) continue;
    if (token.lstrip) begin = SpacesBefore(text, begin, std::min(done, begin));
    if (token.rstrip) end = SpacesAfter(text, end);
    if (done < begin) cuts->push_back({nullptr, done, begin});
    cuts->push_back({&token, begin, end});
    done = end;
  }
  if (done < text.size()) cuts->push_back({nullptr, done, text.size()});
}

}  // namespace retort::text
