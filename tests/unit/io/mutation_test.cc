// Random damage to good files, by a fixed seed: parsers may refuse or accept, but never read
// outside the bytes (seen by the sanitizer preset), and what they accept must hold together.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>

#include "core/base/rng.h"
#include "core/io/gguf.h"
#include "core/io/safetensors.h"
#include "core/json/json.h"
#include "tests/unit/io/gguf_bytes.h"

namespace retort::io {
namespace {

constexpr int kRounds = 20'000;

// One to three small changes: a byte, a number, a cut, an insertion, a repeated piece.
std::string Damage(std::string s, Rng* rng) {
  constexpr std::string_view kBytes = "{}[]:,\"\\/*09-+.eEtfn \n\xEF\xBB\xBF\xED\xA0\xF4";
  for (uint64_t n = 1 + rng->Below(3); n > 0; --n) {
    const size_t at = rng->Below(s.size());
    const char byte =
        rng->Below(2) == 0 ? kBytes[rng->Below(kBytes.size())] : static_cast<char>(rng->Below(256));
    const uint64_t number = rng->Below(2) == 0 ? ~uint64_t{0} >> rng->Below(64) : rng->Below(300);
    switch (rng->Below(5)) {
      case 0: s[at] = byte; break;
      case 1: s.resize(at + 1); break;
      case 2: s.insert(at, 1 + rng->Below(3), byte); break;
      case 3: s.insert(at, s.substr(rng->Below(s.size()), rng->Below(12))); break;
      default: std::memcpy(s.data() + at, &number, std::min<size_t>(8, s.size() - at));
    }
  }
  s.shrink_to_fit();  // so that the sanitizer sees the first byte behind
  return s;
}

void ExpectConsistent(const json::Value& value) {
  for (size_t i = 0; i < value.size(); ++i) {
    if (value.is_object()) {
      ASSERT_TRUE(value[value.key_at(i)]);
    }
    ExpectConsistent(value.value_at(i));
  }
}

TEST(Mutation, JsonThatParsesIsWrittenAndReadBackEqual) {
  const std::string good =
      "{\"a\":[1,2.5e-3,{\"b\":\"c\\n\\u00e9\\ud83d\\ude00é😀\"}],\"d\":null,\"e\":true,\"f\":{},"
      "// note\n "
      "\"g\":{\"1\":1,\"2\":2,\"3\":3,\"4\":4,\"5\":5,\"6\":6,\"7\":7,\"8\":8,\"9\":9,},}";
  Rng rng(RootKey(1, "json"));
  int n_parsed = 0;
  for (int i = 0; i < kRounds; ++i) {
    const auto doc = json::Document::Parse(Damage(good, &rng), "f", {.allow_comments = true});
    if (!doc.ok()) continue;
    ++n_parsed;
    const std::string text = doc.value().root().Dump();
    const auto again = json::Document::Parse(text, "g");
    ASSERT_TRUE(again.ok()) << text;
    ASSERT_EQ(again.value().root().Dump(), text);
    ExpectConsistent(doc.value().root());
  }
  EXPECT_GT(n_parsed, 100);
}

TEST(Mutation, GgufTensorsLieInsideTheFile) {
  GgufBytes file;
  file.String("general.architecture", "llama").U32("n", 7).Strings("l", {"a", "", "cc"});
  file.Ints("i", {-1, 2}).Bool("y", true).Floats("t", {2, 3}, {1, 2, 3, 4, 5, 6});
  file.Info("q", {32, 2}, 8, file.data.size());
  file.data.resize(file.data.size() + 96);
  Rng rng(RootKey(2, "gguf"));
  int n_parsed = 0;
  for (int i = 0; i < kRounds; ++i) {
    const std::string bytes = Damage(file.Bytes(), &rng);
    const Result<GgufHead> head = ParseGguf(bytes, "f");
    if (!head.ok()) continue;
    ++n_parsed;
    for (const GgufTensor& tensor : head.value().tensors) {
      ASSERT_LE(tensor.bytes, bytes.size());
      ASSERT_LE(tensor.offset, bytes.size() - tensor.bytes);
    }
  }
  EXPECT_GT(n_parsed, 100);
}

TEST(Mutation, SafetensorsEntriesLieInsideTheFile) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]}}   )";
  const std::string good = Raw(uint64_t{header.size()}) + header + std::string(12, 'd');
  Rng rng(RootKey(3, "safetensors"));
  int n_parsed = 0;
  for (int i = 0; i < kRounds; ++i) {
    const std::string bytes = Damage(good, &rng);
    const Result<SafetensorsHeader> parsed = ParseSafetensors(bytes, "f");
    if (!parsed.ok()) continue;
    ++n_parsed;
    for (const SafetensorsEntry& entry : parsed.value().entries) {
      ASSERT_LE(entry.end, bytes.size() - parsed.value().data_offset);
    }
  }
  EXPECT_GT(n_parsed, 100);
}

}  // namespace
}  // namespace retort::io
