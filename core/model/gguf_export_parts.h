// What PlanExport is made of: the file's keys.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/io/gguf_write.h"
#include "core/model/gguf_facts.h"
#include "core/model/source.h"

namespace retort::model {

struct ExportKeys {
  io::GgufKvs kvs;
  std::vector<std::pair<std::string, std::vector<float>>> factors;  // tensors of rotary factors
  std::vector<std::string> warnings;
};

// general.* but for the file's type, and the architecture's own keys.
Status ConfigKeys(const Source& source, const GgufArch& arch, const GgufFacts& facts,
                  ExportKeys* out);
// <arch>.rope.*
Status RopeKeys(const Source& source, const GgufArch& arch, const GgufFacts& facts,
                ExportKeys* out);
// tokenizer.*; nothing if the model has none. UNIMPLEMENTED names the part of tokenizer.json that
// GGUF's kinds of tokenizers don't have. `vocab`: rows of the embedding.
Status TokenizerKeys(const Source& source, int64_t vocab, ExportKeys* out);

}  // namespace retort::model
