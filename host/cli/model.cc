// model show.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {

std::vector<Command> ModelCommands() {
  return {
      {"model show",
       "model.show",
       "a model's layer graph, parameters, tokenizer and chat format",
       "MODEL",
       "model",
       {{"json", Kind::kFlag, "", "print a summary as one JSON object instead of the graph"}},
       "MODEL is a folder in Hugging Face's layout or a GGUF file. Reads no weights.\n"
       "\n"
       "Example:\n"
       "  retort model show models/SmolLM2-135M-Instruct.gguf\n"},
  };
}

}  // namespace retort::cli
