// Added tokens: cut from a text before anything else sees it. Leftmost-longest, like the
// Aho-Corasick search of HF tokenizers, with lstrip, rstrip and single_word.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace retort::text {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false;
  bool normalized = true, special = false;
};

// A stretch of text: a token, or text between tokens (token NULL).
struct Cut {
  const AddedToken* token;
  size_t begin, end;
};

class AddedTokenMatcher {
 public:
  // `tokens` outlive the matcher; `contents[i]` is what to look for (normalised, perhaps).
  void Build(const std::vector<const AddedToken*>& tokens,
             const std::vector<std::string>& contents);
  bool empty() const { return tokens_.empty(); }
  // Covers the text; `plain_special`: special tokens are not cut.
  void CutText(std::string_view text, bool plain_special, std::vector<Cut>* cuts) const;

 private:
  struct Node {
    int32_t token = -1;  // index in tokens_, if a content ends here
    int32_t child = -1;  // first child
    int32_t sibling = -1;
    unsigned char byte = 0;
  };
  int32_t Child(int32_t node, unsigned char byte) const;
  // Longest content at `at`: its index and length, or -1.
  int32_t LongestAt(std::string_view text, size_t at, size_t* length) const;

  std::vector<const AddedToken*> tokens_;
  std::vector<Node> nodes_;
  int32_t first_[256];  // children of the root
};

}  // namespace retort::text
