// score, filter.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {

std::vector<Command> ChainCommands() {
  const Option input{"input", Kind::kText, "FILE", "JSON lines; standard input if absent or -"};
  const Option tokenizer{"tokenizer", Kind::kText, "MODEL",
                         "counts tokens of lines without ids, for plugins that need them"};
  const Option seed{"seed", Kind::kInt, "N", "for plugins that draw random numbers (default 0)"};
  return {
      {"score",
       "score",
       "a reward chain over samples",
       "",
       "",
       {{"reward", Kind::kTexts, "ID[:CONFIG]", "a reward plugin and its config; may be repeated",
         true},
        input,
        tokenizer,
        seed},
       "Reads lines with `prompt`, `completion` and whatever the rewards need (`answer`, ...); "
       "lines\n"
       "of one `record_uid` that follow each other are a group. Writes the same lines with\n"
       "`rewards` {name: number or null}, `status` {name: ok, not_applicable, error or timeout} "
       "and\n"
       "`reward`, the weighted sum of what could be measured, or null. CONFIG is a JSON object; a\n"
       "whole entry of a pipeline's chain may stand in place of ID[:CONFIG].\n"
       "\n"
       "Examples:\n"
       "  retort score --reward number_match --input samples.jsonl\n"
       "  retort score --reward '{\"plugin\": \"number_match\", \"weight\": 0.5}' < "
       "samples.jsonl\n"},
      {"filter",
       "filter",
       "a filter chain over samples or records",
       "",
       "",
       {{"filter", Kind::kTexts, "ID[:CONFIG]", "a filter plugin and its config; may be repeated",
         true},
        input,
        {"audit", Kind::kText, "FILE", "write a line {uid, plugin, reason} for each drop"},
        tokenizer,
        seed},
       "Reads samples or records and writes the lines that the chain keeps, rewritten where a "
       "filter\n"
       "rewrote them. Lines of one `record_uid` that follow each other are a group. A filter that\n"
       "reads rewards gets them from its entry: a whole entry may stand in place of ID[:CONFIG].\n"
       "\n"
       "Examples:\n"
       "  retort filter --filter 'length:{\"max_chars\": 2000}' --input samples.jsonl --audit "
       "a.jsonl\n"
       "  retort filter --filter '{\"plugin\": \"reward_threshold\", \"rewards\": "
       "[\"number_match\"],\n"
       "                           \"config\": {\"min\": 1}}' --input samples.jsonl\n"},
  };
}

}  // namespace retort::cli
