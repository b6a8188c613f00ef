// SPDX-License-Identifier: Apache-2.0
#include "core/json/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace retort::json {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kSchema = R"({
  "type": "object",
  "properties": {
    "min": {"type": "number", "default": 0.5, "minimum": 0, "maximum": 1},
    "mode": {"type": "string", "enum": ["strict", "loose"], "default": "strict"},
    "count": {"type": "integer"},
    "tags": {"type": "array", "items": {"type": "string"}, "default": []},
    "path": {"type": "string", "x-retort": "file"},
    "inner": {"type": "object", "properties": {"x": {"type": "integer", "default": 3}},
              "default": {}},
    "weights": {"type": "object", "additionalProperties": {"type": "number"}}
  },
  "required": ["count"]
})";

void ExpectRejected(std::string_view config, const std::string& start, const std::string& rule) {
  const auto result = ResolveConfig(kSchema, config);
  ASSERT_FALSE(result.ok()) << config;
  EXPECT_THAT(result.status().message(), StartsWith(start));
  EXPECT_THAT(result.status().message(), HasSubstr(rule));
}

TEST(ResolveConfig, FillsDefaultsInSchemaOrder) {
  EXPECT_EQ(ResolveConfig(kSchema, R"({"count": 2, "min": 1})").value(),
            R"({"min":1,"mode":"strict","count":2,"tags":[],"inner":{"x":3}})");
  EXPECT_EQ(
      ResolveConfig(kSchema, R"({"count": 2, "weights": {"a": 1.50}, "inner": {"x": 4}})").value(),
      R"({"min":0.5,"mode":"strict","count":2,"tags":[],"inner":{"x":4},"weights":{"a":1.50}})");
}

TEST(ResolveConfig, ErrorsBeginWithThePointer) {
  ExpectRejected("{}", "/count: ", "required key is missing");
  ExpectRejected(R"({"count": 1, "mni": 0.5})", "/mni: ", "did you mean \"min\"?");
  ExpectRejected(R"({"count": 1.5})", "/count: ", "expected integer, found 1.5");
  ExpectRejected(R"({"count": "1"})", "/count: ", "expected integer");
  ExpectRejected(R"({"count": 1, "min": -0.1})", "/min: ", "below the minimum 0");
  ExpectRejected(R"({"count": 1, "min": 2})", "/min: ", "above the maximum 1");
  ExpectRejected(R"({"count": 1, "mode": "lose"})", "/mode: ", "did you mean \"loose\"?");
  ExpectRejected(R"({"count": 1, "tags": ["a", 2]})", "/tags/1: ", "expected string");
  ExpectRejected(R"({"count": 1, "inner": {"y": 1}})", "/inner/y: ", "unknown key");
  ExpectRejected(R"({"count": 1, "weights": {"a/b": "x"}})", "/weights/a~1b: ", "expected number");
  ExpectRejected("[]", "(config): ", "expected an object");
}

TEST(ResolveConfig, NoSchemaTakesAnything) {
  EXPECT_EQ(ResolveConfig("", R"({"a": {"b": 1}})").value(), R"({"a":{"b":1}})");
  EXPECT_EQ(ResolveConfig("", "").value(), "{}");
  EXPECT_FALSE(ResolveConfig(R"({"type": "object", "properties": {}})", R"({"a": 1})").ok());
}

TEST(CheckSchema, RefusesWhatIsOutsideTheSubset) {
  EXPECT_THAT(CheckSchema(R"({"properties": {"a": {"pattern": "x"}}})").message(),
              HasSubstr("/properties/a/pattern: keyword outside the subset"));
  EXPECT_FALSE(CheckSchema(R"({"type": "float"})").ok());
  EXPECT_FALSE(CheckSchema(R"({"properties": []})").ok());
  EXPECT_FALSE(CheckSchema(R"({"x-retort": "url"})").ok());
  EXPECT_FALSE(CheckSchema(R"({"minimum": "1"})").ok());
  EXPECT_THAT(
      CheckSchema(R"({"properties": {"a": {"type": "integer", "default": 1.5}}})").message(),
      HasSubstr("/properties/a/default"));
  EXPECT_TRUE(CheckSchema(kSchema).ok());
  EXPECT_TRUE(CheckSchema(R"({"type": ["string", "null"], "description": "d"})").ok());
}

TEST(FindMarked, GivesPointersOfFiles) {
  const auto marked = FindMarked(kSchema, R"({"count": 1, "path": "a.txt"})", "file").value();
  ASSERT_EQ(marked.size(), 1u);
  EXPECT_EQ(marked[0].pointer, "/path");
  EXPECT_EQ(marked[0].value, "a.txt");
}

}  // namespace
}  // namespace retort::json
