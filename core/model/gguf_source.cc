// A model in a GGUF file, seen as an HF folder.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <mutex>

#include "core/io/gguf.h"
#include "core/model/files.h"
#include "core/model/gguf_layout.h"
#include "core/model/gguf_view.h"
#include "core/model/tokenizer.h"
#include "core/text/bpe_tables.h"
#include "core/text/unicode.h"

namespace retort::model {
namespace {

class GgufSource final : public SourceBase, public TokenizerMaker {
 public:
  static Result<std::unique_ptr<Source>> Open(const std::string& path) {
    RETORT_ASSIGN_OR_RETURN(io::Gguf gguf, io::Gguf::Open(path));
    FolderTexts texts;
    RETORT_ASSIGN_OR_RETURN(texts.config, GgufConfig(gguf));
    RETORT_ASSIGN_OR_RETURN(std::optional<GgufVocabulary> vocabulary, ReadGgufVocabulary(gguf));
    // The tokenizer as its maker wrote it, where the file holds it.
    texts.tokenizer = gguf.String(kGgufTokenizerJson).value_or("");
    texts.tokenizer_config = GgufTokenizerConfig(gguf);
    texts.generation_config = GgufGenerationConfig(gguf);
    texts.chat_template = gguf.String("tokenizer.chat_template").value_or("");
    RETORT_ASSIGN_OR_RETURN(json::Document config,
                            json::Document::Parse(texts.config, path + " (config)"));
    std::unique_ptr<GgufSource> source(
        new GgufSource(path, std::move(texts), std::move(config), std::move(gguf)));
    source->vocabulary_ = std::move(vocabulary);
    RETORT_RETURN_IF_ERROR(source->CollectTensors());
    return std::unique_ptr<Source>(std::move(source));
  }

  bool is_gguf() const override { return true; }

  const std::string& tokenizer_json() const override {
    if (!vocabulary_) return SourceBase::tokenizer_json();
    std::call_once(tokenizer_once_,
                   [this] { tokenizer_ = GgufTokenizer(*vocabulary_, GgufTables::kWith); });
    return tokenizer_;
  }

  Result<std::unique_ptr<text::Tokenizer>> MakeTokenizer() const override {
    const std::string& config = tokenizer_config_json();
    if (vocabulary_ && IsUtf8(vocabulary_->tokens)) {
      const std::vector<std::string_view> tokens = GgufUsedTokens(*vocabulary_);
      return text::TokenizerFromTables(GgufTokenizer(*vocabulary_, GgufTables::kWithout),
                                       {.tokens = tokens, .merges = vocabulary_->merges}, config,
                                       path());
    }
    if (tokenizer_json().empty()) return std::unique_ptr<text::Tokenizer>();
    return text::Tokenizer::FromJson(tokenizer_json(), config, path());
  }

 protected:
  Status Read(const TensorInfo& info, int64_t begin, int64_t end,
              const TensorView& out) const override {
    const GgufPart& part = PartOf(info);
    const io::GgufTensor& tensor = gguf_.tensors()[part.tensor];
    const int64_t rows = RowCount(part.shape);
    if (begin == end || out.numel() == 0) return OkStatus();
    const int64_t row_size = out.numel() / (end - begin);
    const auto row_bytes = static_cast<int64_t>(info.bytes) / rows;
    const char* data = gguf_.bytes(tensor).data();
    if (part.heads == 0) {
      Dequantize(tensor.type, data + (part.row_begin + begin) * row_bytes, out.numel(), out, 0);
    } else {
      for (int64_t row = begin; row < end; ++row) {
        Dequantize(tensor.type, data + FileRow(part, row, rows) * row_bytes, row_size, out,
                   (row - begin) * row_size);
      }
    }
    if (part.minus != 0) Subtract(part.minus, out);
    return OkStatus();
  }

  std::optional<DType> StoredType(const TensorInfo& info) const override {
    const GgufPart& part = PartOf(info);
    if (part.minus != 0) return std::nullopt;
    return TypeOf(gguf_.tensors()[part.tensor].type);
  }

  void ReadBytes(const TensorInfo& info, int64_t begin, int64_t end, char* out) const override {
    const GgufPart& part = PartOf(info);
    const int64_t rows = RowCount(part.shape);
    const size_t each = rows == 0 ? 0 : info.bytes / static_cast<uint64_t>(rows);
    const char* data = gguf_.bytes(gguf_.tensors()[part.tensor]).data();
    if (part.heads == 0) {
      const char* from = data + static_cast<size_t>(part.row_begin + begin) * each;
      std::copy_n(from, static_cast<size_t>(end - begin) * each, out);
      return;
    }
    for (int64_t row = begin; row < end; ++row, out += each) {
      std::copy_n(data + static_cast<size_t>(FileRow(part, row, rows)) * each, each, out);
    }
  }

  // Of permuted rows the whole heads: neighbours come from the file again.
  void ReleaseBytes(const TensorInfo& info, int64_t begin, int64_t end) const override {
    const GgufPart& part = PartOf(info);
    const int64_t rows = RowCount(part.shape);
    if (rows == 0) return;
    if (part.heads != 0) {
      const int64_t head_rows = rows / part.heads;
      begin = begin / head_rows * head_rows;
      end = std::min((end + head_rows - 1) / head_rows * head_rows, rows);
    }
    const size_t each = info.bytes / static_cast<uint64_t>(rows);
    gguf_.Release(gguf_.bytes(gguf_.tensors()[part.tensor])
                      .substr(static_cast<size_t>(part.row_begin + begin) * each,
                              static_cast<size_t>(end - begin) * each));
  }

  std::vector<std::string> files() const override { return {path()}; }

 private:
  GgufSource(const std::string& path, FolderTexts texts, json::Document config, io::Gguf gguf)
      : SourceBase(path, std::move(texts), std::move(config)), gguf_(std::move(gguf)) {}

  Status CollectTensors() {
    RETORT_ASSIGN_OR_RETURN(const GgufArch* arch, GgufArchOf(gguf_));
    RETORT_ASSIGN_OR_RETURN(parts_, GgufParts(gguf_, *arch));
    for (const GgufPart& part : parts_) {
      const io::GgufTensor& tensor = gguf_.tensors()[part.tensor];
      const bool slice = part.shape.size() < tensor.shape.size();  // of stacked experts
      const uint64_t share =
          slice ? static_cast<uint64_t>(std::max<int64_t>(tensor.shape[0], 1)) : 1;
      tensors_.push_back({.name = part.name,
                          .shape = part.shape,
                          .storage = io::GgmlTypeName(static_cast<uint32_t>(tensor.type)),
                          .bytes = tensor.bytes / share});
    }
    return OkStatus();
  }

  // JSON text has no other; writing mends it.
  static bool IsUtf8(std::span<const std::string_view> tokens) {
    return std::all_of(tokens.begin(), tokens.end(), text::IsValidUtf8);
  }

  const GgufPart& PartOf(const TensorInfo& info) const {
    return parts_[static_cast<size_t>(&info - tensors_.data())];
  }

  static std::optional<DType> TypeOf(io::GgmlType type) {
    switch (type) {
      case io::GgmlType::kF32: return DType::kF32;
      case io::GgmlType::kF16: return DType::kF16;
      case io::GgmlType::kBF16: return DType::kBF16;
      case io::GgmlType::kQ8_0: return DType::kQ8_0;
      case io::GgmlType::kQ4_0: return DType::kQ4_0;
      case io::GgmlType::kQ4_1: return DType::kQ4_1;
      case io::GgmlType::kQ4_K: return DType::kQ4_K;
      case io::GgmlType::kQ6_K: return DType::kQ6_K;
    }
    return std::nullopt;
  }

  static void Subtract(float minus, const TensorView& out) {
    const auto less = [minus]<class T>(T* data, int64_t n) {
      for (int64_t i = 0; i < n; ++i) data[i] -= static_cast<T>(minus);
    };
    out.dtype == DType::kF32 ? less(out.as<float>(), out.numel())
                             : less(out.as<double>(), out.numel());
  }

  // `n` weights to element `at` of `out`; f64 goes through a small f32 buffer of whole blocks.
  static void Dequantize(io::GgmlType type, const char* src, int64_t n, const TensorView& out,
                         int64_t at) {
    if (out.dtype == DType::kF32) return io::Dequantize(type, src, n, out.as<float>() + at);
    const io::GgmlTypeInfo& info = *io::FindGgmlType(static_cast<uint32_t>(type));
    constexpr int64_t kPiece = 4096;  // a multiple of every block
    float buffer[kPiece];
    for (int64_t i = 0; i < n; i += kPiece) {
      const int64_t m = std::min(n - i, kPiece);
      io::Dequantize(type, src + i / info.block_weights * info.block_bytes, m, buffer);
      std::copy(buffer, buffer + m, out.as<double>() + at + i);
    }
  }

  io::Gguf gguf_;
  std::vector<GgufPart> parts_;  // of tensors_
  std::optional<GgufVocabulary> vocabulary_;
  mutable std::once_flag tokenizer_once_;
  mutable std::string tokenizer_;  // written when first asked for
};

}  // namespace

Result<std::unique_ptr<Source>> OpenGguf(const std::string& path) { return GgufSource::Open(path); }

Result<std::unique_ptr<text::Tokenizer>> OpenTokenizer(const Source& source) {
  if (const auto* maker = dynamic_cast<const TokenizerMaker*>(&source)) {
    return maker->MakeTokenizer();
  }
  if (source.tokenizer_json().empty()) return std::unique_ptr<text::Tokenizer>();
  return text::Tokenizer::FromJson(source.tokenizer_json(), source.tokenizer_config_json(),
                                   source.path());
}

}  // namespace retort::model
