// What GGUF and Hugging Face call the same models and tensors: one table for reading and writing.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace retort::model {

enum class GgufBlock : uint8_t { kPlain, kGemma, kOlmo2, kPhi3 };  // names inside a block
enum class GgufExperts : uint8_t { kNone, kQwen, kMixtral };       // names of its experts
enum class GgufHead : uint8_t { kOptional, kAlways, kNever };      // of output.weight

// A model type of Hugging Face; several may share an architecture of GGUF.
struct GgufArch {
  std::string_view gguf, model_type, class_name;
  std::string_view activation;  // of the MLP, in all models of it: GGUF has no key for it
  GgufBlock block = GgufBlock::kPlain;
  GgufExperts experts = GgufExperts::kNone;
  GgufHead head = GgufHead::kOptional;
  bool permuted = false;       // rows of q and k lie in pairs (2j, 2j + 1)
  bool norm_plus_one = false;  // norms are stored as 1 + weight
  bool qkv_bias = false;       // always, without a key in config.json
  bool has_window = false;     // llama.cpp's graph of it knows windows
};

std::span<const GgufArch> GgufArchs();
const GgufArch* FindGgufArch(std::string_view model_type);  // NULL: none
std::string GgufModelTypes();                               // "llama, mistral, ...": for messages
std::string GgufArchNames();                                // "llama, qwen2, ...": for messages

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; unknown names stay. In the
// name of stacked experts, "{}" stands for the expert's number.
std::string HfName(const GgufArch& arch, std::string_view gguf_name);

// The way back: "" if GGUF has no name for it. `expert`: the number of the expert, -1 of others.
std::string GgufName(const GgufArch& arch, std::string_view hf_name, int64_t* expert);

// "model.layers.3.mlp.up_proj.weight" -> "mlp.up_proj": what tensors of all layers have in common.
std::string TensorClass(std::string_view hf_name);

}  // namespace retort::model
