// The reader of the test headers beside the host's own, which it stands in for: the same texts are
// refused, and those that aren't have the same values. And what happens to a config before a plugin
// sees it.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/json/json.h"
#include "retort/sdk/testing_json.h"
#include "retort/sdk/testing_schema.h"

namespace retort {
namespace {

retort_str Str(const std::string& text) { return {text.data(), text.size()}; }

// Of the value `node`, as JSON.
std::string Dump(const retort_json_document* document, uint32_t node) {
  retort_json_value v{};
  EXPECT_EQ(retort_test_json_value(nullptr, document, node, &v), RETORT_OK);
  json::Writer out;
  const auto child = [&](uint64_t i, retort_str* key) {
    retort_json_value value{};
    EXPECT_EQ(retort_test_json_element(nullptr, document, node, i, key, &value), RETORT_OK);
    return Dump(document, value.node);
  };
  switch (v.type) {
    case RETORT_JSON_NULL: return "null";
    case RETORT_JSON_BOOL: return v.integer != 0 ? "true" : "false";
    case RETORT_JSON_NUMBER: return std::string(v.text.ptr, v.text.len);
    case RETORT_JSON_STRING: return out.String({v.text.ptr, v.text.len}).Take();
    case RETORT_JSON_ARRAY:
      out.BeginArray();
      for (uint64_t i = 0; i < v.size; ++i) out.Raw(child(i, nullptr));
      return out.EndArray().Take();
    default: break;
  }
  out.BeginObject();
  for (uint64_t i = 0; i < v.size; ++i) {
    retort_str key{};
    const std::string value = child(i, &key);
    out.Key({key.ptr, key.len}).Raw(value);
  }
  return out.EndObject().Take();
}

// "" if it is refused.
std::string ByTestReader(const std::string& text) {
  retort_json_document* document = nullptr;
  char why[256] = "";
  if (retort_test_json_parse(nullptr, Str(text), &document, why) != RETORT_OK) {
    EXPECT_NE(std::string(why), "") << text;
    return "";
  }
  std::string out = Dump(document, 0);
  retort_test_json_free(nullptr, document);
  return out;
}

std::string ByHost(const std::string& text) {
  const Result<json::Document> document = json::Document::Parse(text, "text");
  return document.ok() ? document->root().Dump() : "";
}

TEST(TestingJson, ReadsAndRefusesAsTheHostDoes) {
  const std::string deep(64, '['), too_deep(65, '[');
  const std::vector<std::string> texts = {"{}",
                                          "[]",
                                          "null",
                                          " true ",
                                          "false",
                                          "0",
                                          "-0",
                                          "-1.5e3",
                                          "12345678901234567890",
                                          "1e400",
                                          "01",
                                          "1.",
                                          ".5",
                                          "+1",
                                          "1e",
                                          "-",
                                          "nul",
                                          "truex",
                                          "",
                                          " ",
                                          "[1,2,[3,{\"a\":[]}]]",
                                          "[1,]",
                                          "[1 2]",
                                          "[",
                                          "]",
                                          "{\"a\":1,\"b\":{\"c\":null}}",
                                          "{\"a\":1,\"a\":2}",
                                          "{\"a\" 1}",
                                          "{\"a\":1,}",
                                          "{a:1}",
                                          "{\"a\":}",
                                          "\"x\\u00e9\\ud83d\\ude00\\n\\\"\\/\"",
                                          "\"\\ud83d\"",
                                          "\"\\ude00\"",
                                          "\"\\ud83dx\"",
                                          "\"\\u12g4\"",
                                          "\"\\x\"",
                                          "\"tab\there\"",
                                          "\"open",
                                          "1 2",
                                          "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"",
                                          "\"\xC3\"",
                                          "\"\xC0\x80\"",
                                          "\"\xED\xA0\x80\"",
                                          "\"\xF4\x90\x80\x80\"",
                                          "\"\xE0\x80\x80\"",
                                          "\"\xFF\"",
                                          "{\"\\u0061\":1,\"a\":2}",
                                          "\"\\u0000\"",
                                          deep + std::string(64, ']'),
                                          too_deep + std::string(65, ']')};
  for (const std::string& text : texts) EXPECT_EQ(ByTestReader(text), ByHost(text)) << text;
}

// Every prefix and every changed byte of a text that has everything.
TEST(TestingJson, ReadsAndRefusesDamagedTextsAsTheHostDoes) {
  const std::string text = R"({"a": [1, -2.5e3, "x\u00e9\n", {"b": null}], "c": {}, "d": true})";
  for (size_t n = 0; n < text.size(); ++n) {
    EXPECT_EQ(ByTestReader(text.substr(0, n)), ByHost(text.substr(0, n))) << n;
    for (const char c : {'"', '\\', '{', '}', '[', ']', ',', ':', '0', 'e', ' ', '\x80', '\0'}) {
      std::string changed = text;
      changed[n] = c;
      EXPECT_EQ(ByTestReader(changed), ByHost(changed)) << changed;
    }
  }
}

TEST(TestingJson, IntegersAreExactOrNone) {
  for (const auto& [text, exact] : {std::pair{"9223372036854775807", true},
                                    {"-9223372036854775808", true},
                                    {"9223372036854775808", false},
                                    {"1.0", false}}) {
    retort_json_document* document = nullptr;
    ASSERT_EQ(retort_test_json_parse(nullptr, Str(text), &document, nullptr), RETORT_OK);
    retort_json_value v{};
    retort_test_json_value(nullptr, document, 0, &v);
    EXPECT_EQ((v.flags & RETORT_JSON_IS_INTEGER) != 0, exact) << text;
    EXPECT_EQ(exact ? std::to_string(v.integer) : text, text);
    retort_test_json_free(nullptr, document);
  }
}

TEST(TestingJson, LooksUpMembersAndRefusesOtherNodes) {
  retort_json_document* document = nullptr;
  ASSERT_EQ(retort_test_json_parse(nullptr, Str("{\"a\": [7]}"), &document, nullptr), RETORT_OK);
  retort_json_value v{};
  EXPECT_EQ(retort_test_json_member(nullptr, document, 0, Str("b"), &v), RETORT_NOT_FOUND);
  EXPECT_EQ(retort_test_json_member(nullptr, document, 0, Str("a"), &v), RETORT_OK);
  EXPECT_EQ(retort_test_json_member(nullptr, document, v.node, Str("a"), &v), RETORT_NOT_FOUND);
  EXPECT_EQ(retort_test_json_element(nullptr, document, v.node, 1, nullptr, &v),
            RETORT_OUT_OF_RANGE);
  EXPECT_EQ(retort_test_json_value(nullptr, document, 99, &v), RETORT_OUT_OF_RANGE);
  retort_test_json_free(nullptr, document);
}

// The config as the plugin gets it, or the reason of its refusal.
std::string Filled(const std::string& config) {
  static constexpr const char* kSchema = R"({"type": "object", "required": ["name"],
    "properties": {"name": {"type": "string"}, "n": {"type": "integer", "minimum": 1, "maximum": 9,
    "default": 4}, "deep": {"type": "array", "default": [1, {"x": "y"}]}}})";
  char* out = nullptr;
  char why[256] = "";
  if (retort_test_fill(kSchema, config.c_str(), &out, why, sizeof why) != RETORT_OK) return why;
  std::string text = out;
  free(out);
  return text;
}

TEST(TestingSchema, FillsDefaultsAndRefusesWhatDoesNotFit) {
  EXPECT_EQ(Filled(R"({"name": "x"})"), R"({"name": "x", "n": 4, "deep": [1, {"x": "y"}]})");
  EXPECT_EQ(Filled(R"({"n": 9, "deep": [], "name": ""})"), R"({"n": 9, "deep": [], "name": ""})");
  EXPECT_EQ(Filled("{}"), "/name: missing");
  EXPECT_EQ(Filled(R"({"name": 1})"), "/name: is of another type than the schema says");
  EXPECT_EQ(Filled(R"({"name": "", "n": 1.5})"), "/n: is of another type than the schema says");
  EXPECT_EQ(Filled(R"({"name": "", "n": 0})"), "/n: is below the minimum");
  EXPECT_EQ(Filled(R"({"name": "", "n": 10})"), "/n: is above the maximum");
  EXPECT_EQ(Filled(R"({"name": "", "m": 1})"), "/m: unknown key");
  EXPECT_EQ(Filled("[]"), "/: the config must be an object");
  EXPECT_EQ(Filled("{").substr(0, 7), "config:");
}

}  // namespace
}  // namespace retort
