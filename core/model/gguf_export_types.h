// Which types the tensors of a written GGUF get.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/io/gguf_write.h"
#include "core/model/gguf_export.h"

namespace retort::model {

// Which type a tensor gets, and how often the wish couldn't be had.
class TypeChooser {
 public:
  explicit TypeChooser(const ExportTypes& types) : types_(types) {}

  // `shape` as in the file.
  io::GgmlType Choose(std::string_view name, const std::vector<int64_t>& shape, bool is_head);

  void AddWarning(std::vector<std::string>* warnings) const;

 private:
  const ExportTypes& types_;
  int64_t n_others_ = 0;
  std::string first_;
};

// general.file_type and what belongs to it.
void TypeKeys(const ExportTypes& types, io::GgufKvs* kvs);

}  // namespace retort::model
