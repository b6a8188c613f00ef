// tokenize, logprob.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {

std::vector<Command> TextCommands() {
  const Option input{"input", Kind::kText, "FILE", "JSON lines; standard input if absent or -"};
  const Option chat_format{"chat-format", Kind::kText, "NAME",
                           "built-in chat format; by the model's template if absent"};
  return {
      {"tokenize",
       "tokenize",
       "text to token ids, or back",
       "MODEL",
       "model",
       {input,
        {"chat", Kind::kFlag, "", "apply the chat template to `messages`; adds `text`"},
        {"decode", Kind::kFlag, "", "`ids` in, `text` out"},
        {"generation-prompt", Kind::kFlag, "", "with --chat: end with the start of an answer"},
        {"skip-special-tokens", Kind::kFlag, "", "with --decode: leave special tokens out"},
        {"no-special-tokens", Kind::kFlag, "", "add no bos or other special tokens"},
        chat_format},
       "Reads lines with `text` or `messages` (with --decode: `ids`) and writes the same lines\n"
       "with `ids` (with --decode: `text`). Other keys are passed through.\n"
       "\n"
       "Example:\n"
       "  echo '{\"text\": \"Hello\"}' | retort tokenize model.gguf\n"},
      {"logprob",
       "logprob",
       "log-probabilities of given texts, token by token",
       "MODEL",
       "model",
       {input,
        {"max-tokens", Kind::kInt, "N", "tokens of one pass through the model (0: chosen)"},
        {"storage", Kind::kText, "TYPE", kStorageHelp},
        {"adapter", Kind::kText, "DIR", kAdapterHelp}},
       "Reads lines with `text` or `ids` (every token after the first counts) or `prompt` and\n"
       "`completion` (the completion's tokens count). Writes the same lines with `ids`, `logprob`\n"
       "(natural logarithm, one per counted token) and `sum`.\n"
       "\n"
       "Example:\n"
       "  retort logprob model.gguf --input texts.jsonl\n"},
  };
}

}  // namespace retort::cli
