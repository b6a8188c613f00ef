// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_export_types.h"

#include <algorithm>
#include <array>

namespace retort::model {
namespace {

using io::GgmlType;

struct TypeInfo {
  GgmlType type;
  std::string_view name;
  uint32_t file_type;  // general.file_type of a file that is mostly so
};
constexpr std::array<TypeInfo, 8> kTypes = {{{GgmlType::kF32, "f32", 0},
                                             {GgmlType::kF16, "f16", 1},
                                             {GgmlType::kBF16, "bf16", 32},
                                             {GgmlType::kQ8_0, "q8_0", 7},
                                             {GgmlType::kQ6_K, "q6_k", 18},
                                             {GgmlType::kQ4_K, "q4_k", 14},
                                             {GgmlType::kQ4_1, "q4_1", 3},
                                             {GgmlType::kQ4_0, "q4_0", 2}}};

const TypeInfo& InfoOf(GgmlType type) {
  return *std::find_if(kTypes.begin(), kTypes.end(),
                       [&](const TypeInfo& info) { return info.type == type; });
}

bool IsFourBit(GgmlType type) {
  return type == GgmlType::kQ4_0 || type == GgmlType::kQ4_1 || type == GgmlType::kQ4_K;
}

bool Fits(GgmlType type, int64_t cols) {
  return cols % io::FindGgmlType(static_cast<uint32_t>(type))->block_weights == 0;
}

}  // namespace

GgmlType TypeChooser::Choose(std::string_view name, const std::vector<int64_t>& shape,
                             bool is_head) {
  // Vectors and routers are small, and llama.cpp computes with them in f32.
  if (shape.size() < 2 || name.ends_with("ffn_gate_inp.weight")) return GgmlType::kF32;
  GgmlType wanted = types_.type;
  if (is_head) wanted = types_.head.value_or(IsFourBit(wanted) ? GgmlType::kQ6_K : wanted);
  GgmlType got = wanted;
  if (!Fits(got, shape.back())) got = GgmlType::kQ8_0;
  if (!Fits(got, shape.back())) got = GgmlType::kF16;
  const bool asked = !is_head || types_.head.has_value();
  if (got != wanted && asked) {
    if (n_others_++ == 0) first_ = std::string(name);
  }
  return got;
}

void TypeChooser::AddWarning(std::vector<std::string>* warnings) const {
  if (n_others_ == 0) return;
  warnings->push_back(std::to_string(n_others_) + " tensors are q8_0 or f16 instead of " +
                      std::string(InfoOf(types_.type).name) +
                      ": their rows are not whole blocks (first: " + first_ + ")");
}

void TypeKeys(const ExportTypes& types, io::GgufKvs* kvs) {
  kvs->U32("general.file_type", InfoOf(types.type).file_type);
  kvs->U32("general.quantization_version", 2);
}

std::string_view ExportTypeName(GgmlType type) { return InfoOf(type).name; }

std::string ExportTypeNames() {
  std::string names;
  for (const TypeInfo& info : kTypes) names.append(names.empty() ? "" : ", ").append(info.name);
  return names;
}

Result<GgmlType> ParseExportType(std::string_view name) {
  std::vector<std::string> known;
  for (const TypeInfo& info : kTypes) {
    if (info.name == name) return info.type;
    known.emplace_back(info.name);
  }
  const auto near = json::Nearest(std::string(name), known);
  return InvalidArgument("type \"" + std::string(name) + "\" can't be written; these can: " +
                         ExportTypeNames() + (near ? "; did you mean \"" + *near + "\"?" : ""));
}

}  // namespace retort::model
