// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_layout.h"

#include <algorithm>

#include "core/model/files.h"

namespace retort::model {
namespace {

bool IsRotary(std::string_view name) {
  return name == "rope_freqs.weight" || name == "rope_factors_long.weight" ||
         name == "rope_factors_short.weight";
}

// Heads that order the rows of this tensor; 0: none do.
int64_t HeadsOf(const io::Gguf& gguf, const GgufArch& arch, std::string_view name) {
  const bool q = name.find(".self_attn.q_proj.") != name.npos;
  const bool k = name.find(".self_attn.k_proj.") != name.npos;
  if (!arch.permuted || (!q && !k)) return 0;
  const std::string key = std::string(arch.gguf) + ".attention.head_count";
  const int64_t heads = gguf.Int(key).value_or(1);
  return q ? heads : gguf.Int(key + "_kv").value_or(heads);
}

Status Damaged(const io::Gguf& gguf, std::string_view name, const std::string& rule) {
  return DataLoss(gguf.path() + ": tensor \"" + std::string(name) + "\" " + rule);
}

// A part for each expert that is stacked in the tensor.
Status AddExperts(const io::Gguf& gguf, size_t index, const std::string& name,
                  std::vector<GgufPart>* parts) {
  const io::GgufTensor& tensor = gguf.tensors()[index];
  if (tensor.shape.size() != 3) {
    return Damaged(
        gguf, tensor.name,
        "has shape " + ShapeText(tensor.shape) + "; stacked experts have three dimensions");
  }
  constexpr int64_t kMostExperts = 65536;
  if (tensor.shape[0] > kMostExperts) {
    return Damaged(gguf, tensor.name,
                   "has " + std::to_string(tensor.shape[0]) + " experts; the limit is " +
                       std::to_string(kMostExperts));
  }
  const size_t mark = name.find("{}");
  for (int64_t e = 0; e < tensor.shape[0]; ++e) {
    parts->push_back({.name = std::string(name).replace(mark, 2, std::to_string(e)),
                      .shape = {tensor.shape[1], tensor.shape[2]},
                      .tensor = index,
                      .row_begin = e * tensor.shape[1]});
  }
  return OkStatus();
}

Status AddPart(const io::Gguf& gguf, const GgufArch& arch, size_t index,
               std::vector<GgufPart>* parts) {
  const io::GgufTensor& tensor = gguf.tensors()[index];
  std::string name = HfName(arch, tensor.name);
  if (name.find("{}") != name.npos) return AddExperts(gguf, index, name, parts);
  GgufPart part{.name = std::move(name), .shape = tensor.shape, .tensor = index};
  part.heads = HeadsOf(gguf, arch, part.name);
  const int64_t rows = RowCount(tensor.shape);
  if (part.heads != 0 && (part.heads < 1 || rows % (part.heads * 2) != 0)) {
    return Damaged(gguf, tensor.name,
                   "has " + std::to_string(rows) + " rows, not an even number for each of " +
                       std::to_string(part.heads) + " heads");
  }
  if (arch.norm_plus_one && part.name.ends_with("norm.weight")) part.minus = 1;
  // The gate of the shared expert is a matrix of one row.
  if (part.name.ends_with(".shared_expert_gate.weight") && part.shape.size() == 1) {
    part.shape.insert(part.shape.begin(), 1);
  }
  parts->push_back(std::move(part));
  return OkStatus();
}

}  // namespace

const io::GgufTensor* FindTensor(const io::Gguf& gguf, std::string_view name) {
  for (const io::GgufTensor& tensor : gguf.tensors()) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

Result<const GgufArch*> GgufArchOf(const io::Gguf& gguf) {
  const auto name = gguf.String("general.architecture");
  if (!name) return DataLoss(gguf.path() + ": has no key general.architecture");
  // Three model types share llama.
  std::string_view wanted;
  if (*name == "llama") {
    const bool experts = gguf.Int("llama.expert_count").value_or(0) > 0;
    const bool window = gguf.Int("llama.attention.sliding_window").value_or(0) > 0;
    wanted = experts ? "mixtral" : window ? "mistral" : "llama";
  }
  for (const GgufArch& arch : GgufArchs()) {
    if (arch.gguf == *name && (wanted.empty() || arch.model_type == wanted)) return &arch;
  }
  return Unimplemented(gguf.path() + ": architecture \"" + std::string(*name) +
                       "\" is not read from GGUF (read are " + GgufArchNames() + ")");
}

bool GgufHasOwnHead(const io::Gguf& gguf) {
  const io::GgufTensor* head = FindTensor(gguf, "output.weight");
  if (head == nullptr) return false;
  const io::GgufTensor* table = FindTensor(gguf, "token_embd.weight");
  if (table == nullptr || table->type != head->type || table->shape != head->shape) return true;
  // Different matrices differ early: this reads all of both only if they are one.
  return gguf.bytes(*table) != gguf.bytes(*head);
}

Result<std::vector<GgufPart>> GgufParts(const io::Gguf& gguf, const GgufArch& arch) {
  const bool own_head = GgufHasOwnHead(gguf);
  std::vector<GgufPart> parts;
  for (size_t i = 0; i < gguf.tensors().size(); ++i) {
    const std::string_view name = gguf.tensors()[i].name;
    if (IsRotary(name) || (name == "output.weight" && !own_head)) continue;
    RETORT_RETURN_IF_ERROR(AddPart(gguf, arch, i, &parts));
  }
  std::sort(parts.begin(), parts.end(),
            [](const GgufPart& a, const GgufPart& b) { return a.name < b.name; });
  for (size_t i = 1; i < parts.size(); ++i) {
    if (parts[i].name == parts[i - 1].name) {
      return DataLoss(gguf.path() + ": tensor \"" + parts[i].name + "\" is there under two names");
    }
  }
  return parts;
}

}  // namespace retort::model
