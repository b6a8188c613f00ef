// A GGUF seen as an HF folder: pure functions from its key-values to the texts and names.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/io/gguf.h"
#include "core/model/files.h"

namespace retort::model {

// config.json and generation_config.json; UNIMPLEMENTED names the architectures that are read.
Result<std::string> GgufConfig(const io::Gguf& gguf);
std::string GgufGenerationConfig(const io::Gguf& gguf);

// tokenizer.json, "" if the file holds no tokenizer; and tokenizer_config.json.
Result<std::string> GgufTokenizer(const io::Gguf& gguf);
std::string GgufTokenizerConfig(const io::Gguf& gguf);

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; unknown names stay.
std::string HfName(std::string_view gguf_name);

// The object `rope_scaling` as JSON text; "" for none.
Result<std::string> GgufRopeScaling(const io::Gguf& gguf, const std::string& arch);

// 1 unless the rows of this tensor (HF name) are permuted in the file: then the number of heads.
// HF row (h, half, j) lies at file row (h, j, half), as llama.cpp's converter writes llama models.
int64_t PermutedHeads(const io::Gguf& gguf, std::string_view hf_name);

}  // namespace retort::model
