// Adapter folders as PEFT writes and reads them (adapter_config.json, adapter_model.safetensors):
// LoRA, alone or with a value head (score.weight); everything else is refused by name. The modules
// are those that the file has weights of, so a folder made with a pattern or "all-linear" loads
// like any other.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"
#include "core/graph/lora.h"
#include "core/io/filesystem.h"
#include "core/model/params.h"

namespace retort::model {

// A folder with an adapter_config.json and no config.json.
bool IsAdapterFolder(const std::string& path);

// Paths of the files that make up an adapter.
std::vector<std::string> AdapterFiles(const std::string& folder);

struct PeftConfig {
  graph::LoraSpec lora;  // targets: the modules of the file by their full names; patterns likewise
  std::string base;      // base_model_name_or_path as written; "": none
  bool value_head = false;    // has score.weight, trained beside the adapter
  bool reward_model = false;  // task_type SEQ_CLS: the head stands in the LM head's place
};

// Reads and checks both files, no weights. Errors name the file, the key and the rule.
Result<PeftConfig> ReadPeftConfig(const std::string& folder);

// Where the base of an adapter folder lies: `config.base` if absolute, else relative to the folder
// or to the current folder, whichever is there. NOT_FOUND says what was tried.
Result<std::string> FindAdapterBase(const std::string& folder, const PeftConfig& config);

// Reads the weights of a folder into the params of graph.adapters[adapter]; `params` in
// graph.params order, those of the adapter f32. One error lists modules missing, of another shape,
// and in the file but not in the graph. A value head that the folder lacks stays as it is.
Status LoadAdapter(const std::string& folder, const graph::Graph& graph, int32_t adapter,
                   std::span<const TensorView> params);

// First values by the params' init rules; a param's numbers depend on (seed, its name) alone. The
// value head's are given when the base is loaded.
Status InitAdapter(const graph::Graph& graph, int32_t adapter, uint64_t seed,
                   std::span<const TensorView> params);

// Writes a folder that peft opens. `spec` as given to AddLora (its targets are written as names of
// modules); `base`: for base_model_name_or_path. Of `texts` only the tokenizer's files are written.
// Each file is published durably; the digests are for the manifest.
Result<std::vector<io::FileDigest>> WriteAdapterFolder(
    io::FileSystem& fs, const std::string& folder, const ModelTexts& texts, const std::string& base,
    const graph::Graph& graph, int32_t adapter, const graph::LoraSpec& spec,
    std::span<const TensorView> params);

// What merging costs in accuracy: stored value minus W + scale B A computed in f64, over all
// elements of the weights that the adapter changes.
struct MergeReport {
  int64_t n_weights = 0, n_elements = 0;
  double max_error = 0, rms_error = 0;
  double max_change = 0, rms_change = 0;  // of scale B A itself, for comparison
};
// Rounds a row of a weight in place to what a storage type keeps of it; empty: f32 keeps all.
using RoundRow = std::function<void(const graph::Param& param, float* row, int64_t n)>;

// W += scale B A for every weight that the adapter touches: summed in f64, rounded to f32, then by
// `round`. `params` in graph.params order, all f32. The adapter's own params stay as they are.
Result<MergeReport> MergeAdapter(const graph::Graph& graph, int32_t adapter,
                                 std::span<const TensorView> params, const RoundRow& round = {},
                                 int32_t n_threads = 1);
// Keeps what bf16 keeps (nearest even).
void RoundToBf16(const graph::Param& param, float* row, int64_t n);

}  // namespace retort::model
