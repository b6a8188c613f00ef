// An adapter's weights: read from its folder, or their first values.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/rng.h"
#include "core/io/safetensors.h"
#include "core/json/json.h"
#include "core/model/files.h"
#include "core/model/peft.h"
#include "core/model/peft_names.h"

namespace retort::model {
namespace {

Status WrongShape(const io::SafetensorsEntry& entry, const graph::Param& param) {
  return FailedPrecondition("\"" + entry.name + "\" has shape " + ShapeText(entry.shape) +
                            ", the model needs " + ShapeText(param.shape));
}

void Collect(const std::string& what, std::vector<std::string>* problems) {
  constexpr size_t kShown = 10;
  if (problems->size() < kShown)
    problems->push_back(what);
  else if (problems->size() == kShown)
    problems->push_back("...");
}

Status CopyWeights(const io::Safetensors& file, const io::SafetensorsEntry& entry,
                   const TensorView& out) {
  const std::string_view bytes = file.bytes(entry);
  RETORT_RETURN_IF_ERROR(
      io::CastFloats(entry.dtype, bytes.data(), out.numel(), out.dtype, out.data));
  const float* values = out.as<float>();
  if (std::all_of(values, values + out.numel(), [](float v) { return std::isfinite(v); })) {
    return OkStatus();
  }
  return DataLoss("\"" + entry.name + "\" holds a number that isn't finite");
}

}  // namespace

Status LoadAdapter(const std::string& folder, const graph::Graph& graph, int32_t adapter,
                   std::span<const TensorView> params) {
  RETORT_ASSIGN_OR_RETURN(const io::Safetensors file, OpenPeftWeights(folder));
  std::vector<std::string> problems;
  std::set<std::string> used;
  std::vector<std::pair<const io::SafetensorsEntry*, size_t>> found;
  for (size_t p = 0; p < graph.params.size(); ++p) {
    const graph::Param& param = graph.params[p];
    if (param.adapter != adapter) continue;
    const std::string name = PeftNameOf(graph, param);
    const io::SafetensorsEntry* entry = file.Find(name);
    if (entry == nullptr && graph::IsValueHead(param)) continue;
    if (entry == nullptr) {
      Collect("\"" + name + "\" is missing", &problems);
    } else if (entry->shape != param.shape) {
      Collect(WrongShape(*entry, param).message(), &problems);
    } else {
      found.emplace_back(entry, p);
    }
    used.insert(name);
  }
  for (const io::SafetensorsEntry& entry : file.entries()) {
    if (used.contains(entry.name)) continue;
    const auto near = json::Nearest(entry.name, {used.begin(), used.end()});
    Collect("\"" + entry.name + "\" is of no module of the adapter" +
                (near ? " (nearest: \"" + *near + "\")" : ""),
            &problems);
  }
  if (!problems.empty()) {
    std::string text;
    for (const std::string& problem : problems) text += (text.empty() ? "" : "; ") + problem;
    return FailedPrecondition(folder + ": the adapter doesn't fit the model: " + text);
  }
  for (const auto& [entry, p] : found) {
    RETORT_RETURN_IF_ERROR(CopyWeights(file, *entry, params[p]).WithContext(folder));
  }
  return OkStatus();
}

Status InitAdapter(const graph::Graph& graph, int32_t adapter, uint64_t seed,
                   std::span<const TensorView> params) {
  for (size_t p = 0; p < graph.params.size(); ++p) {
    const graph::Param& param = graph.params[p];
    if (param.adapter != adapter || graph::IsValueHead(param)) continue;
    float* out = params[p].as<float>();
    const int64_t n = param.numel();
    if (param.init != graph::kInitUniform) {
      std::fill(out, out + n, static_cast<float>(param.init_value));
      continue;
    }
    Rng rng(Derive(RootKey(seed, "init"), param.name));
    for (int64_t i = 0; i < n; ++i) {
      out[i] = static_cast<float>((2 * rng.Uniform() - 1) * param.init_value);
    }
  }
  return OkStatus();
}

}  // namespace retort::model
