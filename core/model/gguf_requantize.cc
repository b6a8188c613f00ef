// A GGUF file as the same file in other types.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/model/files.h"
#include "core/model/gguf_export_types.h"
#include "core/model/gguf_layout.h"

namespace retort::model {

Result<GgufExport> PlanRequantize(const io::Gguf& gguf, const ExportTypes& types) {
  GgufExport plan;
  TypeChooser chooser(types);
  for (const io::GgufKv& kv : gguf.kvs()) {
    const bool ours = kv.key == "general.file_type" || kv.key == "general.quantization_version" ||
                      kv.key == "general.alignment";
    if (!ours) plan.kvs.Copy(kv);
  }
  TypeKeys(types, &plan.kvs);
  const bool own_head = FindTensor(gguf, "output.weight") != nullptr;
  const auto arch = GgufArchOf(gguf);
  for (const io::GgufTensor& from : gguf.tensors()) {
    const bool is_head = from.name == (own_head ? "output.weight" : "token_embd.weight");
    ExportTensor tensor;
    const bool small = from.shape.size() < 2;
    const io::GgmlType type = small ? from.type : chooser.Choose(from.name, from.shape, is_head);
    tensor.item = {std::string(from.name), from.shape, type};
    tensor.cls = TensorClass(arch.ok() ? HfName(**arch, from.name) : std::string(from.name));
    if (type == from.type) {
      tensor.stored = gguf.bytes(from);
    } else {
      const int64_t cols = from.shape.back(), rows = AsMatrix(from.shape).rows;
      const auto row_bytes = static_cast<int64_t>(from.bytes) / std::max<int64_t>(rows, 1);
      tensor.read = [&gguf, &from, cols, row_bytes](int64_t begin, int64_t end, float* out) {
        io::Dequantize(from.type, gguf.bytes(from).data() + begin * row_bytes, (end - begin) * cols,
                       out);
        return OkStatus();
      };
    }
    plan.tensors.push_back(std::move(tensor));
  }
  chooser.AddWarning(&plan.warnings);
  return plan;
}

}  // namespace retort::model
