// Encodes texts for tests/peers/compare_tokenizers.py, and measures how fast.
//   tokenizer_tool FOLDER < texts.jsonl > ids.jsonl      lines {"text"} -> {"ids", "text"}
//   tokenizer_tool FOLDER --bench FILE SECONDS           prints MB/s over the file's lines
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "core/base/clock.h"
#include "core/json/json.h"
#include "core/text/tokenizer.h"

namespace {

using retort::text::Tokenizer;

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

int Convert(const Tokenizer& tokenizer) {
  for (std::string line; std::getline(std::cin, line);) {
    const auto document = retort::json::Document::Parse(line, "stdin", {.max_bytes = 1 << 24});
    if (!document.ok()) return 1;
    const auto ids = tokenizer.Encode(document->root()["text"].StringOr(""));
    if (!ids.ok()) {
      std::fprintf(stderr, "%s\n", ids.status().ToString().c_str());
      return 1;
    }
    retort::json::Writer writer;
    writer.BeginObject().Key("ids").BeginArray();
    for (int32_t id : *ids) writer.Int(id);
    writer.EndArray().Field("text", tokenizer.Decode(*ids).value()).EndObject();
    std::cout << writer.text() << "\n";
  }
  return 0;
}

int Bench(const Tokenizer& tokenizer, const std::string& path, double seconds) {
  const std::string text = ReadAll(path);
  size_t bytes = 0, ids = 0;
  const retort::Stopwatch watch;
  while (watch.Seconds() < seconds) {
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      ids += tokenizer.Encode(std::string_view(text).substr(at, end - at)).value().size();
      at = end + 1;
    }
    bytes += text.size();
  }
  std::printf("{\"mb_per_s\": %.2f, \"ids\": %zu}\n",
              static_cast<double>(bytes) * 1e-6 / watch.Seconds(), ids);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const std::string folder = argv[1];
  const retort::Stopwatch watch;
  const auto tokenizer = Tokenizer::FromJson(ReadAll(folder + "/tokenizer.json"),
                                             ReadAll(folder + "/tokenizer_config.json"), folder);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  std::fprintf(stderr, "loaded in %.3f s\n", watch.Seconds());
  if (argc == 5) return Bench(**tokenizer, argv[3], std::stod(argv[4]));
  return Convert(**tokenizer);
}
