// generate.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {

std::vector<Command> GenerateCommands() {
  return {
      {"generate",
       "generate",
       "completions of prompts",
       "MODEL",
       "model",
       {{"prompt", Kind::kText, "TEXT", "one prompt, taken as it is (with --chat: as a message)"},
        {"input", Kind::kText, "FILE",
         "JSON lines with `prompt` or `messages`; - is standard input"},
        {"chat", Kind::kFlag, "", "make each prompt the user's message of the model's chat format"},
        {"system", Kind::kText, "TEXT", "system message; needs a chat format"},
        {"chat-format", Kind::kText, "NAME", "built-in chat format; by the template if absent"},
        {"prefix", Kind::kText, "TEXT", "start every completion with this text"},
        {"samples", Kind::kInt, "N", "completions per prompt (default 1)"},
        {"max-tokens", Kind::kInt, "N", "most tokens of a completion (default 256)"},
        {"min-tokens", Kind::kInt, "N", "fewest tokens before it may end (default 0)"},
        {"temperature", Kind::kNumber, "X", "0 is greedy (default 1)"},
        {"top-k", Kind::kInt, "N", "sample among the N likeliest tokens (default 0: all)"},
        {"top-p", Kind::kNumber, "X",
         "sample among the likeliest tokens of this share (default 1)"},
        {"min-p", Kind::kNumber, "X",
         "sample among tokens of at least this share of the likeliest's (default 0: all)"},
        {"repetition-penalty", Kind::kNumber, "X",
         "divide the logits of tokens in prompt and completion (default 1)"},
        {"presence-penalty", Kind::kNumber, "X",
         "take it from the logits of tokens in the completion (default 0)"},
        {"frequency-penalty", Kind::kNumber, "X",
         "take it for each time that a token is in the completion (default 0)"},
        {"logit-bias", Kind::kTexts, "ID=X", "add to the logit of a token id; may be repeated"},
        {"stop", Kind::kTexts, "TEXT", "end a completion before this text; may be repeated"},
        {"seed", Kind::kInt, "N", "of the sampling (default 0)"},
        {"max-batch", Kind::kInt, "N", "sequences decoded together (default 16)"},
        {"kv-dtype", Kind::kText, "TYPE", "keep keys and values as f32 (default), bf16 or int8"},
        {"kv-memory", Kind::kInt, "BYTES",
         "most memory for them (default 0: what max-batch sequences need)"},
        {"prefill-chunk", Kind::kInt, "N", "prompt tokens of one pass (default 512)"},
        {"storage", Kind::kText, "TYPE", kStorageHelp},
        {"adapter", Kind::kText, "DIR", kAdapterHelp},
        {"json", Kind::kFlag, "", "with --prompt on a terminal: the sample's line, not its text"}},
       "Reads lines with `prompt` (as it is) or `messages` (through the chat template) and writes\n"
       "one sample a line: prompt, completion, token ids, log-probabilities, why it ended. Other\n"
       "keys go into `record`. With one --prompt on a terminal the text appears as it is written.\n"
       "The tokens of a sample depend on the seed, its prompt's uid and its number alone.\n"
       "\n"
       "Examples:\n"
       "  retort generate model.gguf --chat --prompt 'What is 17 * 3?' --temperature 0\n"
       "  retort generate model.gguf --input questions.jsonl --samples 4 > samples.jsonl\n"},
  };
}

}  // namespace retort::cli
