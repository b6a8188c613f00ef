// model.convert, quantize, diff and merge through the C edge: every family of the fixtures goes
// into a GGUF and back bit by bit and keeps its graph; wrong input is refused by name.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>
#include <fstream>
#include <regex>

#include "core/io/dequant.h"
#include "core/io/gguf.h"
#include "core/io/safetensors.h"
#include "tests/unit/commands/host_fixture.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::host {
namespace {
namespace fs = std::filesystem;

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

class ModelCommands : public HostTest {
 protected:
  std::string Target(const std::string& name) const { return dir_ / name; }
  static std::string Paths(const std::string& from, const std::string& to,
                           const std::string& more = "") {
    return R"({"source": )" + Quote(from) + R"(, "target": )" + Quote(to) + more + "}";
  }
  static std::string Pair(const std::string& a, const std::string& b,
                          const std::string& more = "") {
    return R"({"a": )" + Quote(a) + R"(, "b": )" + Quote(b) + more + "}";
  }
  void Convert(const std::string& from, const std::string& to, const std::string& type) {
    const Ran ran = MustRun("model.convert", Paths(from, to, R"(, "type": ")" + type + "\""));
    EXPECT_THAT(ran.lines, Contains(HasSubstr(type))) << from;
  }
  // The graph that a model's config gives, without the model's path.
  std::string GraphOf(const std::string& model) {
    const Ran ran = MustRun("model.show", R"({"json": true, "model": )" + Quote(model) + "}");
    return ran.lines.empty() ? "" : ran.Line(0).root()["nodes"].Dump();
  }
  // The same with all numbers of its nodes, but for rope scaling, which both sides spell as they
  // do.
  std::string PrintOf(const std::string& model) {
    const std::regex scaling("scaling \\{[^}]*\\}|, balance [0-9.e-]+");
    std::string out;
    const Ran ran = MustRun("model.show", R"({"model": )" + Quote(model) + "}");
    for (const std::string& line : ran.lines) {
      if (line.starts_with("  %")) out += std::regex_replace(line, scaling, "") + "\n";
    }
    EXPECT_NE(out, "") << model;
    return out;
  }

  io::TempFolder dir_;
};

std::string CopyOf(const io::TempFolder& dir, const std::string& fixture) {
  const std::string folder = dir / fixture;
  fs::create_directory(folder);
  for (const auto& entry : fs::directory_iterator(Fixture(fixture))) {
    fs::copy_file(entry.path(), fs::path(folder) / entry.path().filename());
  }
  return folder;
}

void ReplaceIn(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = io::ReadAll(path);
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << path << " has no " << from;
  std::ofstream(path) << text.replace(at, from.size(), to);
}

int64_t RotaryPairs(const json::Value& config) {
  const double head = config["head_dim"].DoubleOr(config["hidden_size"].DoubleOr(0) /
                                                  config["num_attention_heads"].DoubleOr(1));
  const double part = config["rope_parameters"]["partial_rotary_factor"].DoubleOr(
      config["partial_rotary_factor"].DoubleOr(1));
  return static_cast<int64_t>(head * part) / 2;
}

constexpr const char* kFamilies[] = {"llama",       "mistral", "qwen2", "qwen3",  "gemma2",
                                     "gemma3_text", "phi3",    "olmo2", "mixtral"};

TEST_F(ModelCommands, EveryFamilyGoesIntoAGgufAndBackBitByBit) {
  for (const std::string family : kFamilies) {
    const std::string gguf = Target(family + ".gguf"), folder = Target(family + "_back");
    Convert(Fixture(family), gguf, "f32");
    Convert(gguf, folder, "f32");
    const Ran equal = MustRun("model.diff", Pair(Fixture(family), folder));
    EXPECT_THAT(equal.lines, Contains("differing    0")) << family;
    // What the file's keys say builds the graph that config.json builds.
    EXPECT_EQ(PrintOf(gguf), PrintOf(Fixture(family))) << family;
    EXPECT_EQ(PrintOf(folder), PrintOf(Fixture(family))) << family;
    for (const char* text : {"tokenizer.json", "chat_template.jinja"}) {
      EXPECT_EQ(io::ReadAll(folder + "/" + text), io::ReadAll(Fixture(family) + "/" + text));
    }
  }
}

TEST_F(ModelCommands, BothRotaryBasesOfGemma3ComeBack) {
  const std::string gguf = Target("m.gguf"), folder = Target("back");
  Convert(Fixture("gemma3_text"), gguf, "f16");
  Convert(gguf, folder, "f16");
  const json::Document config =
      json::Document::Parse(io::ReadAll(folder + "/config.json"), "config").value();
  EXPECT_EQ(config.root()["rope_theta"].DoubleOr(0), 1e6);
  EXPECT_EQ(config.root()["rope_local_base_freq"].DoubleOr(0), 1e4);
  EXPECT_EQ(config.root()["rope_scaling"]["rope_type"].StringOr(""), "linear");
  EXPECT_EQ(config.root()["rope_scaling"]["factor"].DoubleOr(0), 4);
}

TEST_F(ModelCommands, TypesOfTensorsFollowTheRule) {
  const std::string path = Target("m.gguf");
  Convert(Fixture("qwen2"), path, "q4_0");
  const io::Gguf gguf = io::Gguf::Open(path).value();
  for (const io::GgufTensor& tensor : gguf.tensors()) {
    const bool head = tensor.name == "output.weight";
    const io::GgmlType wanted = tensor.shape.size() < 2 ? io::GgmlType::kF32
                                : head                  ? io::GgmlType::kQ8_0
                                                        : io::GgmlType::kQ4_0;
    EXPECT_EQ(tensor.type, wanted) << tensor.name;
  }
  EXPECT_EQ(gguf.Int("general.file_type"), 2);
}

TEST_F(ModelCommands, RoundingStaysBelowHalfAStepOfTheType) {
  const Ran ran = MustRun("model.quantize", Paths(Fixture("qwen3"), Target("m.gguf"),
                                                  R"(, "type": "q8_0", "json": true)"));
  const json::Document report = ran.Line(0);
  EXPECT_GT(report.root()["bytes_before"].IntOr(0), report.root()["bytes_after"].IntOr(0) * 2);
  const json::Value classes = report.root()["classes"];
  ASSERT_GT(classes.size(), 5u);
  for (size_t i = 0; i < classes.size(); ++i) {
    const bool rounded = classes[i]["type"].StringOr("") == "q8_0";
    const double relative = classes[i]["relative_error"].DoubleOr(-1);
    // A step is max / 127, and a uniform error in it has rms step / sqrt(12).
    EXPECT_LT(relative, rounded ? 0.01 : 1e-12) << classes[i].Dump();
    EXPECT_EQ(relative > 0, rounded) << classes[i].Dump();
  }
}

TEST_F(ModelCommands, AGgufIsQuantizedAsItsFolderIs) {
  const std::string f32 = Target("f32.gguf"), once = Target("a.gguf"), twice = Target("b.gguf");
  Convert(Fixture("llama"), f32, "f32");
  MustRun("model.quantize", Paths(Fixture("llama"), once, R"(, "type": "q8_0")"));
  MustRun("model.quantize", Paths(f32, twice, R"(, "type": "q8_0")"));
  EXPECT_THAT(MustRun("model.diff", Pair(once, twice)).lines, Contains("differing    0"));
  ExpectUsage("model.convert", Paths(f32, Target("c.gguf")), "needs \"type\"");
}

TEST_F(ModelCommands, HalfTypesKeepWhatTheyHold) {
  Convert(Fixture("qwen2"), Target("bf16.gguf"), "bf16");  // the fixture is bf16
  MustRun("model.diff", Pair(Fixture("qwen2"), Target("bf16.gguf")));
  Convert(Fixture("qwen3"), Target("half"), "f16");
  const io::Safetensors half = io::Safetensors::OpenFolder(Target("half")).value();
  EXPECT_EQ(half.entries()[0].dtype, "F16");
  EXPECT_THAT(io::ReadAll(Target("half/config.json")), HasSubstr("\"dtype\": \"float16\""));
}

TEST_F(ModelCommands, DiffNamesWhatDiffersAndFails) {
  const std::string other = CopyOf(dir_, "qwen3");
  const std::string file = other + "/model.safetensors";
  ReplaceIn(file, "\"model.norm.weight\"", "\"model.nurm.weight\"");
  const Ran names = Run("model.diff", Pair(Fixture("qwen3"), other));
  EXPECT_EQ(names.outcome, RETORT_OUTCOME_FAILED);
  EXPECT_THAT(names.message, AllOf(HasSubstr("1 tensors only in A"), HasSubstr("1 only in B")));
  EXPECT_THAT(names.lines, Contains(HasSubstr("model.nurm.weight")));

  Convert(Fixture("qwen3"), Target("bf16"), "bf16");
  const std::string pair = Pair(Fixture("qwen3"), Target("bf16"));
  ExpectFailure("model.diff", pair, "", "with weights that differ");
  // Half a step of bf16 at weights below 2 is 2^-8.
  MustRun("model.diff", Pair(Fixture("qwen3"), Target("bf16"), R"(, "tolerance": 0.0079)"));
  const Ran json = Run("model.diff", Pair(Fixture("qwen3"), Target("bf16"), R"(, "json": true)"));
  EXPECT_FALSE(json.Line(0).root()["equal"].BoolOr(true));
  EXPECT_EQ(json.Line(0).root()["tensors"][0]["stored_b"].StringOr(""), "BF16");
}

TEST_F(ModelCommands, NothingIsOverwrittenUnasked) {
  const std::string gguf = Target("m.gguf"), folder = Target("m");
  Convert(Fixture("qwen3"), gguf, "f16");
  Convert(Fixture("qwen3"), folder, "f16");
  ExpectUsage("model.convert", Paths(Fixture("qwen3"), gguf), "is there already");
  ExpectUsage("model.convert", Paths(Fixture("qwen3"), folder), "is there already");
  MustRun("model.convert", Paths(Fixture("qwen3"), gguf, R"(, "force": true)"));
  MustRun("model.convert", Paths(Fixture("qwen3"), folder, R"(, "force": true)"));
  ExpectUsage("model.convert", Paths(gguf, gguf, R"(, "type": "f32", "force": true)"),
              "read and written at once");
  fs::create_directory(Target("x.gguf"));
  ExpectUsage("model.convert", Paths(Fixture("qwen3"), Target("x.gguf")), "is a folder");
}

TEST_F(ModelCommands, OldShardsGoWithTheModelTheyBelongedTo) {
  const std::string folder = CopyOf(dir_, "llama");  // of two shards
  MustRun("model.convert", Paths(Fixture("llama"), folder, R"(, "force": true)"));
  EXPECT_TRUE(fs::exists(folder + "/model.safetensors"));
  EXPECT_FALSE(fs::exists(folder + "/model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(folder + "/model-00001-of-00002.safetensors"));
  MustRun("model.diff", Pair(Fixture("llama"), folder));
}

TEST_F(ModelCommands, WrongTypesAreUsageErrors) {
  const std::string from = Fixture("qwen3");
  ExpectUsage("model.convert", Paths(from, Target("m.gguf"), R"(, "type": "q8_o")"),
              "did you mean \"q8_0\"?");
  ExpectUsage("model.convert", Paths(from, Target("m"), R"(, "type": "q8_0")"),
              "has no place in an HF folder");
  ExpectUsage("model.quantize", Paths(from, Target("m"), R"(, "type": "q8_0")"),
              "end the name in .gguf");
  ExpectUsage("model.convert", Paths(from, Target("m.gguf"), R"(, "head_type": "x")"),
              "can't be written");
  ExpectFailure("model.convert", Paths("/nowhere", Target("m.gguf")), "", "/nowhere");
  ExpectFailure("model.convert", Paths(Fixture("gsm8k"), Target("m.gguf")), "", "not a model");
  EXPECT_TRUE(fs::is_empty(dir_.path()));
}

TEST_F(ModelCommands, WhatGgufHasNoPlaceForIsRefusedByName) {
  const std::string folder = CopyOf(dir_, "qwen3");
  const std::string to = Target("m.gguf");
  const auto refused = [&](const std::string& file, const std::string& from,
                           const std::string& text, const std::string& rule) {
    const std::string path = folder + "/" + file, before = io::ReadAll(path);
    ReplaceIn(path, from, text);
    ExpectFailure("model.convert", Paths(folder, to), "", rule);
    std::ofstream(path) << before;
    EXPECT_FALSE(fs::exists(to)) << rule;
  };
  refused("config.json", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"",
          "no place for another activation than silu");
  refused("config.json", "\"rope_type\": \"default\"",
          "\"rope_type\": \"dynamic\", \"factor\": 2.0", "rope_scaling \"dynamic\"");
  refused("tokenizer.json", "\\\\p{N}| ?", "\\\\p{N}{2}| ?", "pre_tokenizer is none that GGUF");
  refused("tokenizer.json", "\"byte_fallback\": false", "\"byte_fallback\": true", "SentencePiece");
  refused("tokenizer.json", "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFKC\"}",
          "its normalizer NFKC");
  refused("model.safetensors", "\"model.norm.weight\"", "\"model.nurm.weight\"",
          "\"model.norm.weight\" is missing");
  // llama.cpp wants experts in every layer; the fixture has a dense one.
  ExpectFailure("model.convert", Paths(Fixture("qwen2_moe"), to), "", "layers without experts");
}

// Tokens, types and order of scores as sentencepiece has them; what tokenizing gives of them,
// tests/unit/model and (in llama.cpp) tests/peers/check_gguf.py show.
TEST_F(ModelCommands, ASentencePieceTokenizerIsWrittenWithScores) {
  const std::string goldens = std::string(RETORT_SOURCE_DIR) + "/tests/golden/tokenizers/";
  const std::string folder = CopyOf(dir_, "llama"), to = Target("m.gguf");
  const auto overwrite = fs::copy_options::overwrite_existing;
  fs::copy_file(goldens + "pieces.json", folder + "/tokenizer.json", overwrite);
  MustRun("model.convert", Paths(folder, to));
  const io::Gguf gguf = io::Gguf::Open(to).value();
  EXPECT_EQ(gguf.String("tokenizer.ggml.model"), "llama");
  EXPECT_EQ(gguf.Bool("tokenizer.ggml.add_space_prefix"), true);
  EXPECT_EQ(gguf.Bool("tokenizer.ggml.add_bos_token"), true);
  EXPECT_EQ(gguf.Int("tokenizer.ggml.unknown_token_id"), 0);
  const auto tokens = gguf.Strings("tokenizer.ggml.tokens").value();
  const auto types = gguf.Ints("tokenizer.ggml.token_type").value();
  const auto scores = gguf.Doubles("tokenizer.ggml.scores").value();
  std::ifstream lines(goldens + "pieces.spm.jsonl");
  double last = 1;
  for (size_t i = 0; i < 500; ++i) {
    std::string line;
    std::getline(lines, line);
    const json::Document piece = json::Document::Parse(line, "piece").value();
    EXPECT_EQ(tokens[i], piece.root()[size_t{0}].StringOr("")) << i;
    EXPECT_EQ(types[i], piece.root()[size_t{2}].IntOr(0)) << i;
    if (types[i] != 1) continue;
    EXPECT_LT(scores[i], last) << i;  // normal pieces lie in falling order of their scores
    last = scores[i];
  }
  EXPECT_EQ(types.size(), 512u);
  EXPECT_EQ(types[511], 5);  // a row of the embedding without a token
}

// A trainer that keeps one merge a token makes what SentencePiece's scores can't say.
TEST_F(ModelCommands, MergesThatNoScoresMakeAreRefused) {
  const std::string goldens = std::string(RETORT_SOURCE_DIR) + "/tests/golden/tokenizers/";
  const std::string folder = CopyOf(dir_, "llama");
  fs::copy_file(goldens + "pieces.json", folder + "/tokenizer.json",
                fs::copy_options::overwrite_existing);
  const std::string path = folder + "/tokenizer.json", before = io::ReadAll(path);
  const auto refused = [&](const std::string& from, const std::string& to,
                           const std::string& rule) {
    ReplaceIn(path, from, to);
    ExpectFailure("model.convert", Paths(folder, Target("m.gguf")), "", rule);
    std::ofstream(path) << before;
  };
  const size_t list = before.find("\"merges\":[") + 10, second = before.find("],[", list) + 2;
  refused(before.substr(list, second - list), "", "joined by one of the two alone");
  refused("\"type\":\"Prepend\"", "\"type\":\"Prepend?\"", "normalizer Prepend? has no place");
}

TEST_F(ModelCommands, RotaryScalingComesBack) {
  const std::string to = Target("m.gguf"), back = Target("back");
  const struct {
    const char *fixture, *from, *rope;
  } cases[] = {
      {"llama", R"("rope_type": "default")",
       R"("rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 256)"},
      {"qwen3", R"("rope_type": "default")", R"("rope_type": "linear", "factor": 4.0)"},
      {"qwen3", R"("rope_type": "default")",
       R"("rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512)"},
  };
  for (const auto& one : cases) {
    fs::remove_all(Target(one.fixture));
    const std::string folder = CopyOf(dir_, one.fixture);
    ReplaceIn(folder + "/config.json", one.from, one.rope);
    MustRun("model.convert", Paths(folder, to, R"(, "force": true)"));
    MustRun("model.convert", Paths(to, back, R"(, "force": true)"));
    EXPECT_EQ(GraphOf(to), GraphOf(folder));
    const json::Document config =
        json::Document::Parse(io::ReadAll(back + "/config.json"), "config").value();
    const json::Value scaling = config.root()["rope_scaling"];
    const json::Document wanted =
        json::Document::Parse("{" + std::string(one.rope) + "}", "rope").value();
    for (size_t i = 0; i < wanted.root().size(); ++i) {
      const std::string_view key = wanted.root().key_at(i);
      const json::Value value = wanted.root().value_at(i);
      EXPECT_EQ(scaling[key].StringOr(""), value.StringOr("")) << key;
      EXPECT_EQ(scaling[key].DoubleOr(0), value.DoubleOr(0)) << key;
    }
  }
}

TEST_F(ModelCommands, LongRopeFactorsComeBack) {
  const std::string folder = CopyOf(dir_, "phi3"), to = Target("m.gguf"), back = Target("back");
  const std::string config = folder + "/config.json";
  const json::Document before = json::Document::Parse(io::ReadAll(config), "config").value();
  const int64_t pairs = RotaryPairs(before.root());
  std::string factors[2];  // short, long
  for (int64_t i = 0; i < pairs; ++i) {
    factors[0] += (i > 0 ? ", " : "") + std::to_string(1 + 0.25 * static_cast<double>(i));
    factors[1] += (i > 0 ? ", " : "") + std::to_string(2 + 0.5 * static_cast<double>(i));
  }
  ReplaceIn(config, "\"original_max_position_embeddings\": 4096",
            "\"original_max_position_embeddings\": 32");
  ReplaceIn(config, "\"rope_type\": \"default\"",
            "\"rope_type\": \"longrope\", \"type\": \"longrope\", \"short_factor\": [" +
                factors[0] + "], \"long_factor\": [" + factors[1] + "]");
  Convert(folder, to, "f32");
  const io::Gguf gguf = io::Gguf::Open(to).value();
  EXPECT_EQ(gguf.Int("phi3.rope.scaling.original_context_length"), 32);
  for (const bool is_long : {false, true}) {
    const std::string name = is_long ? "rope_factors_long.weight" : "rope_factors_short.weight";
    const auto tensor = std::find_if(gguf.tensors().begin(), gguf.tensors().end(),
                                     [&](const io::GgufTensor& t) { return t.name == name; });
    ASSERT_NE(tensor, gguf.tensors().end()) << name;
    ASSERT_EQ(tensor->shape, std::vector<int64_t>{pairs});
    std::vector<float> values(static_cast<size_t>(pairs));
    io::Dequantize(tensor->type, gguf.bytes(*tensor).data(), pairs, values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      const auto n = static_cast<float>(i);
      EXPECT_EQ(values[i], is_long ? 2 + 0.5f * n : 1 + 0.25f * n) << name << " " << i;
    }
  }
  Convert(to, back, "f32");
  EXPECT_EQ(PrintOf(to), PrintOf(folder));
  EXPECT_EQ(PrintOf(back), PrintOf(folder));
  const json::Document after =
      json::Document::Parse(io::ReadAll(back + "/config.json"), "config").value();
  const json::Value scaling = after.root()["rope_scaling"];
  ASSERT_EQ(scaling["long_factor"].size(), static_cast<size_t>(pairs));
  EXPECT_EQ(scaling["long_factor"][size_t{1}].DoubleOr(0), 2.5);
  EXPECT_EQ(scaling["short_factor"][size_t{1}].DoubleOr(0), 1.25);
}

// That the sum is the right one, tests/unit/model compares with peft's.
TEST_F(ModelCommands, AMergedAdapterChangesItsModulesAlone) {
  const auto merge = [&](const std::string& to, const std::string& more) {
    return R"({"base": )" + Quote(Fixture("llama")) + R"(, "adapter": )" +
           Quote(Fixture("adapters/llama_ranks")) + R"(, "target": )" + Quote(to) + more + "}";
  };
  const Ran ran = MustRun("model.merge", merge(Target("folder"), ""));
  ASSERT_FALSE(ran.lines.empty());
  EXPECT_THAT(ran.lines[0], HasSubstr("merged   14 weights"));
  MustRun("model.merge", merge(Target("m.gguf"), R"(, "type": "f32")"));
  EXPECT_THAT(MustRun("model.diff", Pair(Target("folder"), Target("m.gguf"))).lines,
              Contains("differing    0"));
  const Ran changed =
      Run("model.diff", Pair(Fixture("llama"), Target("folder"), R"(, "json": true)"));
  EXPECT_EQ(changed.outcome, RETORT_OUTCOME_FAILED);
  const json::Document report = changed.Line(0);
  const json::Value tensors = report.root()["tensors"];
  for (size_t i = 0; i < tensors.size(); ++i) {
    const bool module = tensors[i]["name"].StringOr("").find("_proj.") != std::string_view::npos;
    EXPECT_EQ(tensors[i]["max"].DoubleOr(0) > 0, module) << tensors[i].Dump();
  }
  ExpectUsage("model.merge", merge(Target("folder"), ""), "is there already");
  ExpectUsage("model.merge", merge(Target("q"), R"(, "type": "q8_0")"), "has no place");
}

TEST_F(ModelCommands, AnAdapterOfAnotherModelIsRefused) {
  const std::string args = R"({"base": )" + Quote(Fixture("qwen3")) + R"(, "adapter": )" +
                           Quote(Fixture("adapters/llama_ranks")) + R"(, "target": )" +
                           Quote(Target("m")) + "}";
  ExpectFailure("model.merge", args, "", "the adapter doesn't fit the model");
  EXPECT_FALSE(fs::exists(Target("m")));
}

TEST_F(ModelCommands, LlamaCppsLimitsAreWarnedOf) {
  EXPECT_THAT(MustRun("model.convert", Paths(Fixture("mistral"), Target("a.gguf"))).warnings,
              Contains(HasSubstr("without a sliding window: texts of more than 24 tokens")));
  EXPECT_THAT(MustRun("model.convert", Paths(Fixture("gemma2"), Target("b.gguf"))).warnings,
              Contains(HasSubstr("query_pre_attn_scalar to be 16")));
  EXPECT_THAT(
      MustRun("model.convert", Paths(Fixture("mistral"), Target("c.gguf"), R"(, "type": "q8_0")"))
          .warnings,
      Contains(HasSubstr("2 tensors are q8_0 or f16 instead of q8_0")));
}

}  // namespace
}  // namespace retort::host
