// A model as it lies on disk, an HF folder or a GGUF file, seen in one way: the HF folder's.
// A GGUF's key-values become config.json, tokenizer.json and so on, its tensors get the HF names
// (llama's q and k rows un-permuted), so that families, tokenizers and checkpoints know one form.
// Opening maps files and checks headers; tensors are read one at a time. Thread-compatible.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/json/json.h"

namespace retort::model {

struct TensorInfo {
  std::string name;            // as in an HF folder
  std::vector<int64_t> shape;  // torch order
  std::string storage;         // "F32" "BF16" "Q4_1" …, as the file says
  uint64_t bytes = 0;          // in the file
};

class Source {
 public:
  // `path`: an HF folder or a .gguf file. The error of a path that is neither says what is there.
  static Result<std::unique_ptr<Source>> Open(const std::string& path);
  virtual ~Source() = default;

  virtual const std::string& path() const = 0;
  virtual bool is_gguf() const = 0;
  virtual const json::Document& config() const = 0;
  virtual const std::string& config_text() const = 0;
  // Texts of the sidecar files, "" where the model has none.
  virtual const std::string& tokenizer_json() const = 0;
  virtual const std::string& tokenizer_config_json() const = 0;
  virtual const std::string& generation_config_json() const = 0;
  virtual const std::string& chat_template() const = 0;

  virtual std::span<const TensorInfo> tensors() const = 0;  // sorted by name
  virtual const TensorInfo* Find(std::string_view name) const = 0;
  // Rows are those of a matrix: all dimensions but the last, flattened; of a vector its elements.
  // Dequantises or casts rows [row_begin, row_end) into `out`, an f32 or f64 contiguous view of
  // that many rows. Non-finite weights are refused (DATA_LOSS).
  virtual Status ReadRows(std::string_view name, int64_t row_begin, int64_t row_end,
                          const TensorView& out) const = 0;
  // The type in which ReadStored gives the rows of a tensor: f32, f16, bf16 or a block type;
  // nothing: only ReadRows reads it.
  virtual std::optional<DType> StoredType(const TensorInfo&) const { return std::nullopt; }
  // The rows as the file has them (blocks in GGUF's order, which retort_pack_rows takes), one after
  // another in HF's order of rows. Non-finite numbers and scales are refused likewise.
  virtual Status ReadStored(std::string_view name, int64_t, int64_t, void*) const {
    return Unimplemented(path() + ": tensor \"" + std::string(name) + "\" can't be read as stored");
  }
  // Says that these rows were read for good: mapped pages are given back to the system.
  virtual void Release(std::string_view, int64_t, int64_t) const {}
  // Of a model that has no weights yet: they are made by the params' init rules from this seed.
  virtual std::optional<uint64_t> init_seed() const { return std::nullopt; }
  // XXH3-128 (hex) over all files of the model; computed once, on first call.
  virtual Result<std::string> Fingerprint() const = 0;
};

}  // namespace retort::model
