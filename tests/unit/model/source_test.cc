// SPDX-License-Identifier: Apache-2.0
#include "core/model/source.h"

#include <gmock/gmock.h>

#include <cmath>

#include "core/io/safetensors.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Fixture(const std::string& name) {
  return std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + name;
}

void ExpectRejected(const std::string& path, const std::string& rule) {
  const auto source = Source::Open(path);
  ASSERT_FALSE(source.ok()) << rule;
  EXPECT_THAT(source.status().message(), HasSubstr(rule));
}

TEST(HfFolder, FixturesOpen) {
  for (const char* name : {"llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma2", "phi3",
                           "gemma3_text", "qwen2_moe", "qwen3_moe", "mixtral"}) {
    const auto source = Source::Open(Fixture(name)).value();
    EXPECT_FALSE(source->is_gguf());
    EXPECT_EQ(source->config().root()["model_type"].StringOr(""), name);
    EXPECT_THAT(source->tokenizer_json(), HasSubstr("\"BPE\""));
    EXPECT_THAT(source->chat_template(), HasSubstr("add_generation_prompt"));
    EXPECT_THAT(source->generation_config_json(), HasSubstr("eos_token_id"));
    const TensorInfo* embedding = source->Find("model.embed_tokens.weight");
    ASSERT_NE(embedding, nullptr);
    EXPECT_EQ(embedding->shape, (std::vector<int64_t>{512, 32}));
    EXPECT_EQ(source->Find("nothing"), nullptr);
  }
}

TEST(HfFolder, RowsAreThoseOfTheWholeTensor) {
  const auto source = Source::Open(Fixture("qwen2")).value();
  const char* name = "model.layers.0.mlp.down_proj.weight";  // [32, 64], bf16
  std::vector<float> all(32 * 64), part(3 * 64);
  std::vector<double> wide(32 * 64);
  ASSERT_TRUE(
      source->ReadRows(name, 0, 32, TensorView::Contiguous(all.data(), DType::kF32, {32, 64}))
          .ok());
  ASSERT_TRUE(
      source->ReadRows(name, 5, 8, TensorView::Contiguous(part.data(), DType::kF32, {3, 64})).ok());
  ASSERT_TRUE(
      source->ReadRows(name, 0, 32, TensorView::Contiguous(wide.data(), DType::kF64, {32, 64}))
          .ok());
  for (size_t i = 0; i < part.size(); ++i) ASSERT_EQ(part[i], all[5 * 64 + i]);
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(wide[i], all[i]);
}

TEST(HfFolder, WrongReadsAreRefused) {
  const auto source = Source::Open(Fixture("llama")).value();
  float x[64];
  const auto view = TensorView::Contiguous(x, DType::kF32, {2, 32});
  EXPECT_EQ(source->ReadRows("nothing", 0, 2, view).code(), Code::kNotFound);
  EXPECT_EQ(source->ReadRows("model.embed_tokens.weight", 511, 513, view).code(),
            Code::kOutOfRange);
  EXPECT_EQ(source->ReadRows("model.embed_tokens.weight", -1, 1, view).code(), Code::kOutOfRange);
  EXPECT_EQ(source->ReadRows("model.embed_tokens.weight", 0, 3, view).code(),
            Code::kInvalidArgument);
}

TEST(HfFolder, NonFiniteWeightsAreNamed) {
  const io::TempFolder dir;
  (void)dir.Write("config.json", "{}");
  std::vector<float> values(5000, 1.0f);
  values[4321] = NAN;
  const auto view = TensorView::Contiguous(values.data(), DType::kF32, {50, 100});
  ASSERT_TRUE(io::WriteSafetensors(io::RealFileSystem(), dir / "model.safetensors",
                                   {{.name = "w", .view = view}})
                  .ok());
  const auto source = Source::Open(dir.path()).value();
  std::vector<float> out(5000);
  const Status status =
      source->ReadRows("w", 0, 50, TensorView::Contiguous(out.data(), DType::kF32, {50, 100}));
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(),
              HasSubstr("\"w\": not a finite number at element 4321 of shape [50, 100]"));
  EXPECT_TRUE(
      source->ReadRows("w", 0, 43, TensorView::Contiguous(out.data(), DType::kF32, {43, 100}))
          .ok());
}

TEST(HfFolder, ATemplateMayLieInTheTokenizerConfig) {
  const io::TempFolder dir;
  (void)dir.Write("config.json", "{}");
  (void)dir.Write("tokenizer_config.json", R"({"chat_template":"text"})");
  EXPECT_EQ(Source::Open(dir.path()).value()->chat_template(), "text");
  (void)dir.Write(
      "tokenizer_config.json",
      R"({"chat_template":[{"name":"tool_use","template":"x"},{"name":"default","template":"y"}]})");
  EXPECT_EQ(Source::Open(dir.path()).value()->chat_template(), "y");
  (void)dir.Write("chat_template.jinja", "file");
  EXPECT_EQ(Source::Open(dir.path()).value()->chat_template(), "file");
}

TEST(HfFolder, FingerprintIsOfTheContent) {
  const io::TempFolder dir;
  (void)dir.Write("config.json", "{}");
  const std::string one = Source::Open(dir.path()).value()->Fingerprint().value();
  EXPECT_EQ(one.size(), 32u);
  EXPECT_EQ(Source::Open(dir.path()).value()->Fingerprint().value(), one);
  (void)dir.Write("notes.txt", "not part of the model");
  EXPECT_EQ(Source::Open(dir.path()).value()->Fingerprint().value(), one);
  (void)dir.Write("config.json", "{ }");
  EXPECT_NE(Source::Open(dir.path()).value()->Fingerprint().value(), one);
}

TEST(SourceOpen, SaysWhatIsThereInstead) {
  const io::TempFolder dir;
  ExpectRejected(dir / "none", "none");
  ExpectRejected(dir.path(), "It holds: nothing");
  ExpectRejected(dir.Write("x.txt", "hello"), "a model is an HF folder or a .gguf file");
  ExpectRejected(dir.Write("model.safetensors", "x"), "name its folder, " + dir.path());
  (void)dir.Write("adapter_config.json", "{}");
  ExpectRejected(dir.path(), "An adapter folder needs its base model");
  ExpectRejected(dir.Write("x.gguf", "GGUX"), "not a GGUF file");
  ExpectRejected(dir.path(), "Name the .gguf file itself");
}

TEST(SourceOpen, BrokenConfigsAreLocated) {
  const io::TempFolder dir;
  (void)dir.Write("config.json", "{\n \"a\": }");
  ExpectRejected(dir.path(), "config.json:2:7");
  (void)dir.Write("config.json", "[]");
  ExpectRejected(dir.path(), "must be a JSON object");
  (void)dir.Write("config.json", "{}");
  (void)dir.Write("model.safetensors", "123");
  ExpectRejected(dir.path(), "it has 3 bytes");
}

TEST(SourceOpen, WeightsMayBeMissingUntilTheyAreNeeded) {
  const io::TempFolder dir;
  (void)dir.Write("tokenizer.json", "{}");
  const auto source = Source::Open(dir.path()).value();
  EXPECT_TRUE(source->tensors().empty());
  EXPECT_TRUE(source->config().root().is_object());
}

}  // namespace
}  // namespace retort::model
