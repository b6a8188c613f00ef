// The host's JSON reader as plugins see it.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "core/base/plugin_call.h"
#include "host/plugin/host_services.h"

namespace retort::host {
namespace {

const retort_host_json_v1& Api() {
  const retort_host* host = PluginHost();
  return *static_cast<const retort_host_json_v1*>(
      host->get_interface(host->ctx, RETORT_HOST_JSON_INTERFACE));
}

class Document {
 public:
  explicit Document(std::string_view text) {
    status = Api().parse(Api().ctx, ToStr(text), &document, error);
  }
  ~Document() { Api().free(Api().ctx, document); }
  retort_json_value Member(uint32_t node, std::string_view key) const {
    retort_json_value v{};
    EXPECT_EQ(Api().member(Api().ctx, document, node, ToStr(key), &v), RETORT_OK) << key;
    return v;
  }
  retort_status status;
  char error[256] = "";
  retort_json_document* document = nullptr;
};

TEST(HostJson, ReadsEveryType) {
  const Document d(R"({"a": [1, 2.5, "t\u00e9xt"], "b": {"c": true}, "n": null, "i": -7})");
  ASSERT_EQ(d.status, RETORT_OK);
  const retort_json_value a = d.Member(0, "a");
  EXPECT_EQ(a.type, RETORT_JSON_ARRAY);
  ASSERT_EQ(a.size, 3u);
  retort_json_value v{};
  ASSERT_EQ(Api().element(Api().ctx, d.document, a.node, 1, nullptr, &v), RETORT_OK);
  EXPECT_EQ(v.number, 2.5);
  EXPECT_EQ(v.flags, 0u);
  ASSERT_EQ(Api().element(Api().ctx, d.document, a.node, 2, nullptr, &v), RETORT_OK);
  EXPECT_EQ(ToView(v.text), "t\u00e9xt");
  EXPECT_EQ(d.Member(d.Member(0, "b").node, "c").integer, 1);
  EXPECT_EQ(d.Member(0, "n").type, RETORT_JSON_NULL);
  EXPECT_EQ(d.Member(0, "i").integer, -7);
  EXPECT_EQ(d.Member(0, "i").flags, RETORT_JSON_IS_INTEGER);
}

TEST(HostJson, NumbersOutOfRange) {
  const Document d(R"({"tiny": -1e-999, "long": 9223372036854775807,
                       "longer": 9223372036854775808})");
  ASSERT_EQ(d.status, RETORT_OK) << d.error;
  EXPECT_EQ(Document("[1e999]").status, RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(d.Member(0, "tiny").number, 0.0);
  EXPECT_TRUE(std::signbit(d.Member(0, "tiny").number));
  EXPECT_EQ(d.Member(0, "long").integer, std::numeric_limits<int64_t>::max());
  EXPECT_EQ(d.Member(0, "longer").flags, 0u);
  EXPECT_EQ(d.Member(0, "longer").number, 9223372036854775808.0);
}

TEST(HostJson, KeysComeInFileOrder) {
  const Document d(R"({"z": 1, "a": 2})");
  retort_json_value v{};
  retort_str key{};
  ASSERT_EQ(Api().element(Api().ctx, d.document, 0, 1, &key, &v), RETORT_OK);
  EXPECT_EQ(ToView(key), "a");
  EXPECT_EQ(v.integer, 2);
}

TEST(HostJson, AbsentThings) {
  const Document d("[]");
  retort_json_value v{};
  EXPECT_EQ(Api().member(Api().ctx, d.document, 0, ToStr("x"), &v), RETORT_NOT_FOUND);
  EXPECT_EQ(Api().element(Api().ctx, d.document, 0, 0, nullptr, &v), RETORT_OUT_OF_RANGE);
  EXPECT_EQ(Api().value(Api().ctx, d.document, 99, &v), RETORT_OUT_OF_RANGE);
}

TEST(HostJson, BadTextGivesAReason) {
  const Document d("{\"a\": ");
  EXPECT_EQ(d.status, RETORT_INVALID_ARGUMENT);
  EXPECT_NE(std::string(d.error), "");
  EXPECT_EQ(d.document, nullptr);
}

TEST(HostJson, UnknownServiceIsNull) {
  EXPECT_EQ(PluginHost()->get_interface(PluginHost()->ctx, "retort.host.teapot/1"), nullptr);
}

}  // namespace
}  // namespace retort::host
