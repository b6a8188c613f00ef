// SPDX-License-Identifier: Apache-2.0
#include "core/json/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace retort::json {
namespace {

Document ParseOk(std::string_view text, const ParseOptions& options = {}) {
  return Document::Parse(text, "test", options).value();
}

TEST(JsonRead, ScalarsAndContainers) {
  const Document doc = ParseOk(
      R"({"a": [1, -2.5e3, true, null], "b": {"c": "x"}, "d": [], "e": {}, "f": "é\u00e9\n"})");
  const Value root = doc.root();
  EXPECT_EQ(root.size(), 5u);
  EXPECT_EQ(root["a"].size(), 4u);
  EXPECT_EQ(root["a"][0].AsInt().value(), 1);
  EXPECT_EQ(root["a"][1].AsDouble().value(), -2500.0);
  EXPECT_TRUE(root["a"][2].AsBool().value());
  EXPECT_TRUE(root["a"][3] && root["a"][3].is_null());
  EXPECT_EQ(root["b"]["c"].AsString().value(), "x");
  EXPECT_EQ(root["d"].size(), 0u);
  EXPECT_TRUE(root["e"].is_object());
  EXPECT_EQ(root["f"].AsString().value(), "éé\n");
  EXPECT_EQ(root.key_at(3), "e");
}

TEST(JsonRead, AbsentIsFalseAndChains) {
  const Document doc = ParseOk("{}");
  const Value absent = doc.root()["a"]["b"][3];
  EXPECT_FALSE(absent);
  EXPECT_TRUE(absent.is_null());
  EXPECT_FALSE(absent.AsInt().ok());
  EXPECT_EQ(absent.IntOr(7), 7);
  EXPECT_EQ(absent.StringOr("x"), "x");
}

TEST(JsonRead, BigObjectsAreFoundByKeyAndKeepOrder) {
  std::string text = "{";
  for (int i = 0; i < 1000; ++i) {
    text += (i ? ",\"k" : "\"k") + std::to_string(i * 7919 % 1000) + "\":" + std::to_string(i);
  }
  const Document doc = ParseOk(text + "}");
  for (int i = 0; i < 1000; ++i) {
    const std::string key = "k" + std::to_string(i * 7919 % 1000);
    EXPECT_EQ(doc.root()[key].AsInt().value(), i);
    EXPECT_EQ(doc.root().key_at(static_cast<size_t>(i)), key);
  }
  EXPECT_FALSE(doc.root()["k1000"]);
}

TEST(JsonRead, IntegersNeverGoThroughDouble) {
  const Document doc = ParseOk(
      "[9007199254740993, 9223372036854775807, -9223372036854775808,"
      " 18446744073709551615, 9223372036854775808, 1.0, 1e3, -1]");
  const Value v = doc.root();
  EXPECT_EQ(v[0].AsInt().value(), 9007199254740993);
  EXPECT_EQ(v[1].AsInt().value(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(v[2].AsInt().value(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(v[3].AsUint().value(), std::numeric_limits<uint64_t>::max());
  EXPECT_FALSE(v[4].AsInt().ok());
  EXPECT_FALSE(v[5].AsInt().ok());
  EXPECT_FALSE(v[6].AsInt().ok());
  EXPECT_FALSE(v[7].AsUint().ok());
}

TEST(JsonRead, DoublesAtTheEdges) {
  const Document doc = ParseOk("[5e-324, 1.7976931348623157e308, 1e-5000, -1e-5000, 0e308]");
  EXPECT_EQ(doc.root()[0].AsDouble().value(), 5e-324);
  EXPECT_EQ(doc.root()[1].AsDouble().value(), std::numeric_limits<double>::max());
  EXPECT_EQ(doc.root()[2].AsDouble().value(), 0.0);
  EXPECT_TRUE(std::signbit(doc.root()[3].AsDouble().value()));
  EXPECT_EQ(doc.root()[4].AsDouble().value(), 0.0);
}

TEST(JsonRead, PositionsOfValuesAndKeys) {
  const Document doc = ParseOk("{\n  \"a\": 1,\n  \"b\\n\" : [true,\n\"x\\ty\"]}");
  const Value a = doc.root()["a"], b = doc.root()["b\n"];
  EXPECT_EQ(a.key_position().line, 2);
  EXPECT_EQ(a.key_position().column, 3);
  EXPECT_EQ(a.position().column, 8);
  EXPECT_EQ(b.key_position().line, 3);
  EXPECT_EQ(b.key_position().column, 3);
  EXPECT_EQ(b.position().column, 11);
  EXPECT_EQ(b[0].position().column, 12);
  EXPECT_EQ(b[1].position().line, 4);
  EXPECT_EQ(b[1].position().column, 1);
}

TEST(JsonRead, CommentsAndTrailingCommasOnlyOnRequest) {
  const std::string_view text = "{ // one, \"two\"\n \"a\": /* : , */ [1, 2,], /* */ \"b\": -3, }";
  EXPECT_FALSE(Document::Parse(text, "t").ok());
  const Document doc = ParseOk(text, {.allow_comments = true});
  EXPECT_EQ(doc.root()["a"].size(), 2u);
  EXPECT_EQ(doc.root()["b"].AsInt().value(), -3);
  EXPECT_EQ(doc.root()["b"].number_text(), "-3");
  EXPECT_EQ(doc.root()["b"].key_position().line, 2);
}

TEST(JsonRead, ValuesSurviveAMoveOfTheDocument) {
  Document doc = ParseOk(R"(["a", "\u0062"])");
  const Value second = doc.root()[1];
  const Document moved = std::move(doc);
  EXPECT_EQ(second.AsString().value(), "b");
}

TEST(JsonDump, KeepsNumbersOrderAndText) {
  const std::string text =
      R"({"z":1.50,"a":[{},[],[[1]],{"x":null}],"q":"\"\\\u0001é","n":-0.0e+10,"t":true})";
  EXPECT_EQ(ParseOk(text).root().Dump(), text);
  EXPECT_EQ(ParseOk(text).root()["a"][3].Dump(), R"({"x":null})");
}

TEST(JsonWrite, CompactAndIndented) {
  Writer w;
  w.BeginObject().Field("a", 1).Key("b").BeginArray().Double(0.1).Float(0.1f).Double(3).Null();
  w.EndArray().Field("c", std::string("x\"y")).Key("d").BeginObject().EndObject().EndObject();
  EXPECT_EQ(w.text(), R"({"a":1,"b":[0.1,0.1,3.0,null],"c":"x\"y","d":{}})");
  Writer p(2);
  p.BeginObject().Field("a", true).Key("b").BeginArray().Int(1).Int(2).EndArray().EndObject();
  EXPECT_EQ(p.text(), "{\n  \"a\": true,\n  \"b\": [\n    1,\n    2\n  ]\n}");
}

TEST(JsonWrite, FloatingPointIsWrittenAsPythonDoes) {
  Writer w;
  w.BeginArray().Float(1e5f).Float(1e-5f).Double(2e-5).Double(0.0001).Double(1e16).Double(1e15);
  w.Double(-0.0).Double(123456.75).EndArray();
  EXPECT_EQ(w.text(), "[100000.0,1e-05,2e-05,0.0001,1e+16,1000000000000000.0,-0.0,123456.75]");
}

TEST(JsonWrite, DoublesReadBackEqual) {
  for (double x : {1.0 / 3, 5e-324, 1e300, -0.0, 123456789012345678.0, 2.5e-5}) {
    Writer w;
    w.BeginArray().Double(x).EndArray();
    EXPECT_EQ(ParseOk(w.text()).root()[0].AsDouble().value(), x) << w.text();
  }
  Writer w;
  w.BeginArray().Double(std::nan("")).Double(INFINITY).EndArray();
  EXPECT_EQ(w.text(), "[null,null]");
}

TEST(JsonWrite, BrokenUtf8BecomesReplacementCharacters) {
  Writer w;
  w.String("a\xFF\xC3(\xED\xA0\x80\xF0\x9F\x98\x80\x7F");
  EXPECT_EQ(w.text(), "\"a\uFFFD\uFFFD(\uFFFD\uFFFD\uFFFD\U0001F600\x7F\"");
}

TEST(Nearest, FindsSlips) {
  const std::vector<std::string> known = {"learning_rate", "max_steps", "seed"};
  EXPECT_EQ(Nearest("learning_rte", known), "learning_rate");
  EXPECT_EQ(Nearest("max_setps", known), "max_steps");  // a swap counts once
  EXPECT_EQ(Nearest("sed", known), "seed");
  EXPECT_EQ(Nearest("temperature", known), std::nullopt);
  EXPECT_EQ(Nearest("", known), std::nullopt);
}

}  // namespace
}  // namespace retort::json
