// A model in a GGUF file, seen as an HF folder.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/io/gguf.h"
#include "core/model/files.h"
#include "core/model/gguf_view.h"

namespace retort::model {
namespace {

class GgufSource final : public SourceBase {
 public:
  static Result<std::unique_ptr<Source>> Open(const std::string& path) {
    RETORT_ASSIGN_OR_RETURN(io::Gguf gguf, io::Gguf::Open(path));
    FolderTexts texts;
    RETORT_ASSIGN_OR_RETURN(texts.config, GgufConfig(gguf));
    RETORT_ASSIGN_OR_RETURN(texts.tokenizer, GgufTokenizer(gguf));
    texts.tokenizer_config = GgufTokenizerConfig(gguf);
    texts.generation_config = GgufGenerationConfig(gguf);
    texts.chat_template = gguf.String("tokenizer.chat_template").value_or("");
    RETORT_ASSIGN_OR_RETURN(json::Document config,
                            json::Document::Parse(texts.config, path + " (config)"));
    std::unique_ptr<GgufSource> source(
        new GgufSource(path, std::move(texts), std::move(config), std::move(gguf)));
    RETORT_RETURN_IF_ERROR(source->CollectTensors());
    return std::unique_ptr<Source>(std::move(source));
  }

  bool is_gguf() const override { return true; }

 protected:
  Status Read(const TensorInfo& info, int64_t begin, int64_t end,
              const TensorView& out) const override {
    const size_t index = static_cast<size_t>(&info - tensors_.data());
    const io::GgufTensor& tensor = gguf_.tensors()[order_[index]];
    const int64_t rows = RowCount(tensor.shape);
    if (begin == end || out.numel() == 0) return OkStatus();
    const int64_t row_size = out.numel() / (end - begin);
    const auto row_bytes = static_cast<int64_t>(tensor.bytes) / rows;
    const char* data = gguf_.bytes(tensor).data();
    const int64_t heads = PermutedHeads(gguf_, info.name);
    if (heads == 1) {
      Dequantize(tensor.type, data + begin * row_bytes, out.numel(), out, 0);
      return OkStatus();
    }
    // One row at a time: HF row (head, half, j) is file row (head, j, half).
    const int64_t head_rows = rows / heads, half_rows = head_rows / 2;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t in_head = row % head_rows;
      const int64_t from = row - in_head + in_head % half_rows * 2 + in_head / half_rows;
      Dequantize(tensor.type, data + from * row_bytes, row_size, out, (row - begin) * row_size);
    }
    return OkStatus();
  }

  std::vector<std::string> files() const override { return {path()}; }

 private:
  GgufSource(const std::string& path, FolderTexts texts, json::Document config, io::Gguf gguf)
      : SourceBase(path, std::move(texts), std::move(config)), gguf_(std::move(gguf)) {}

  Status CollectTensors() {
    std::vector<std::pair<std::string, size_t>> names;
    for (size_t i = 0; i < gguf_.tensors().size(); ++i) {
      const std::string_view name = gguf_.tensors()[i].name;
      if (name != "rope_freqs.weight") names.emplace_back(HfName(name), i);  // is in the config
    }
    std::sort(names.begin(), names.end());
    for (auto& [name, i] : names) {
      const io::GgufTensor& tensor = gguf_.tensors()[i];
      if (!tensors_.empty() && tensors_.back().name == name) {
        return DataLoss(path() + ": tensor \"" + name + "\" is there under two names");
      }
      const int64_t heads = PermutedHeads(gguf_, name), rows = RowCount(tensor.shape);
      if (heads != 1 && (heads < 1 || rows % (heads * 2) != 0)) {
        return DataLoss(path() + ": tensor \"" + std::string(tensor.name) + "\" has " +
                        std::to_string(rows) + " rows, not an even number for each of " +
                        std::to_string(heads) + " heads");
      }
      tensors_.push_back({.name = name,
                          .shape = tensor.shape,
                          .storage = io::GgmlTypeName(static_cast<uint32_t>(tensor.type)),
                          .bytes = tensor.bytes});
      order_.push_back(i);
    }
    return OkStatus();
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
  std::vector<size_t> order_;  // of tensors_: index in the file
};

}  // namespace

Result<std::unique_ptr<Source>> OpenGguf(const std::string& path) { return GgufSource::Open(path); }

}  // namespace retort::model
