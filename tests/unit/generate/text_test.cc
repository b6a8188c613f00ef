// Text of samples: streaming, stop strings, special tokens; on the fixture's byte-level tokenizer.
// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <map>
#include <sstream>

#include "core/text/tokenizer.h"
#include "tests/unit/generate/tiny_model.h"

namespace retort::generate {
namespace {

using engine::Completion;
using engine::Finish;
using engine::GenerateOptions;
using engine::GenerateRequest;

std::string ReadFixture(const char* name) {
  std::ifstream in(std::string(RETORT_SOURCE_DIR "/tests/fixtures/llama/") + name);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

class TextTest : public testing::Test {
 protected:
  TextTest()
      : tokenizer_(text::Tokenizer::FromJson(ReadFixture("tokenizer.json"),
                                             ReadFixture("tokenizer_config.json"), "fixture")
                       .value()),
        model_({.vocab = tokenizer_->vocab_size()}) {}

  GenerateOptions Options() {
    GenerateOptions options;
    options.tokenizer = tokenizer_.get();
    return options;
  }
  std::vector<GenerateRequest> Requests() {
    std::vector<GenerateRequest> requests;
    for (uint64_t uid = 0; uid < 6; ++uid) requests.push_back(Request(uid, 10, 120, 1.5));
    return requests;
  }

  std::unique_ptr<text::Tokenizer> tokenizer_;
  TinyModel model_;
};

bool IsWholeUtf8(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    const size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
    if (n == 0 || i + n > s.size()) return false;
    for (size_t k = 1; k < n; ++k) {
      if (static_cast<unsigned char>(s[i + k]) >> 6 != 2) return false;
    }
    i += n;
  }
  return true;
}

TEST_F(TextTest, StreamedPiecesAreWholeCharactersAndJoinToTheText) {
  GenerateOptions options = Options();
  std::map<uint64_t, std::string> streamed;
  options.on_text = [&](uint64_t uid, int32_t, std::string_view piece) {
    EXPECT_TRUE(IsWholeUtf8(piece));
    streamed[uid] += piece;
  };
  bool broken = false;  // random bytes: the case this test is for did occur
  for (const Completion& done : model_.Run(Requests(), options).done) {
    EXPECT_EQ(streamed[done.uid], done.text);
    EXPECT_EQ(done.text, tokenizer_->Decode(done.ids, true).value());
    broken |= done.text.find("\xEF\xBF\xBD") != std::string::npos;
  }
  EXPECT_TRUE(broken);
}

TEST_F(TextTest, TextWithoutAStreamIsTheSame) {
  GenerateOptions streaming = Options();
  streaming.on_text = [](uint64_t, int32_t, std::string_view) {};
  const auto with = model_.Run(Requests(), streaming), without = model_.Run(Requests(), Options());
  for (size_t i = 0; i < with.done.size(); ++i) EXPECT_EQ(with.done[i].text, without.done[i].text);
}

TEST_F(TextTest, AStopStringIsCutFromTheTextWhileIdsKeepWhatWasSampled) {
  for (const Completion& plain : model_.Run(Requests(), Options()).done) {
    const size_t middle = plain.text.size() / 2;
    const std::string stop = plain.text.substr(middle, 3);
    GenerateRequest request = Requests()[plain.uid];
    request.sampling.stop = {"\x01never\x01", stop};
    GenerateOptions options = Options();
    std::string streamed;
    options.on_text = [&](uint64_t, int32_t, std::string_view piece) { streamed += piece; };
    const Completion done = model_.Run({&request, 1}, options).done[0];
    EXPECT_EQ(done.finish, Finish::kStop);
    EXPECT_EQ(done.text, plain.text.substr(0, plain.text.find(stop)));
    EXPECT_EQ(streamed, done.text);
    ASSERT_LE(done.ids.size(), plain.ids.size());
    EXPECT_TRUE(std::equal(done.ids.begin(), done.ids.end(), plain.ids.begin()));
    EXPECT_NE(tokenizer_->Decode(done.ids, true).value().find(stop), std::string::npos);
  }
}

TEST_F(TextTest, TheStopTokenIsNotInTheText) {
  const Completion plain = model_.Run(Requests(), Options()).done[0];
  GenerateRequest request = Requests()[0];
  request.sampling.stop_ids = {plain.ids[9]};
  const Completion done = model_.Run({&request, 1}, Options()).done[0];
  EXPECT_EQ(done.finish, Finish::kStop);
  EXPECT_EQ(done.ids.back(), plain.ids[9]);
  const std::span<const int32_t> ids = done.ids;
  EXPECT_EQ(done.text, tokenizer_->Decode(ids.first(ids.size() - 1), true).value());
}

TEST_F(TextTest, TheForcedPrefixIsPartOfTheText) {
  GenerateRequest request = Requests()[0];
  request.prefix = tokenizer_->Encode("<think>\n", {.add_special_tokens = false}).value();
  const Completion done = model_.Run({&request, 1}, Options()).done[0];
  EXPECT_EQ(done.text.rfind("<think>\n", 0), 0u);
}

}  // namespace
}  // namespace retort::generate
