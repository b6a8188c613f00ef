// What the two kinds of Source share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/model/layout.h"
#include "core/model/source.h"

namespace retort::model {

// The texts of an HF folder, however they came about.
struct FolderTexts {
  std::string config, tokenizer, tokenizer_config, generation_config, chat_template;
};

// Everything of a Source but the tensors' bytes.
class SourceBase : public Source {
 public:
  const std::string& path() const override { return path_; }
  const json::Document& config() const override { return config_; }
  const std::string& config_text() const override { return texts_.config; }
  const std::string& tokenizer_json() const override { return texts_.tokenizer; }
  const std::string& tokenizer_config_json() const override { return texts_.tokenizer_config; }
  const std::string& generation_config_json() const override { return texts_.generation_config; }
  const std::string& chat_template() const override { return texts_.chat_template; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override;
  Status ReadRows(std::string_view name, int64_t row_begin, int64_t row_end,
                  const TensorView& out) const override;
  Status ReadStored(std::string_view name, int64_t row_begin, int64_t row_end,
                    void* out) const override;
  void Release(std::string_view name, int64_t row_begin, int64_t row_end) const override;
  Result<std::string> Fingerprint() const override;

 protected:
  SourceBase(std::string path, FolderTexts texts, json::Document config)
      : path_(std::move(path)), texts_(std::move(texts)), config_(std::move(config)) {}
  // `begin` and `end` are rows inside the tensor, `out` fits; finiteness is checked by the caller.
  virtual Status Read(const TensorInfo& tensor, int64_t begin, int64_t end,
                      const TensorView& out) const = 0;
  // Rows in file order; only of tensors with a StoredType.
  virtual void ReadBytes(const TensorInfo& tensor, int64_t begin, int64_t end, char* out) const = 0;
  virtual void ReleaseBytes(const TensorInfo& tensor, int64_t begin, int64_t end) const = 0;
  virtual std::vector<std::string> files() const = 0;  // paths, sorted

  std::vector<TensorInfo> tensors_;  // sorted by name

 private:
  Result<const TensorInfo*> FindRows(std::string_view name, int64_t begin, int64_t end) const;
  Status NotFinite(const TensorInfo& tensor, int64_t element) const;
  std::string Where(std::string_view tensor) const;  // for errors

  std::string path_;
  FolderTexts texts_;
  json::Document config_;
  mutable std::mutex fingerprint_mutex_;
  mutable std::optional<std::string> fingerprint_;
};

// Those that are there, with the template of tokenizer_config.json where that is its place.
Result<FolderTexts> ReadFolderTexts(const std::string& path);
Result<std::unique_ptr<Source>> OpenHfFolder(const std::string& path);
Result<std::unique_ptr<Source>> OpenGguf(const std::string& path);

inline constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
inline constexpr uint64_t kMaxTokenizerBytes = uint64_t{64} << 20;

// Rows of a tensor seen as a matrix (core/model/layout.h); a scalar is one row.
inline int64_t RowCount(const std::vector<int64_t>& shape) { return AsMatrix(shape).rows; }
// "[49152, 576]"
std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace retort::model
