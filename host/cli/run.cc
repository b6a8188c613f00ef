// run, plan, demo.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {

std::vector<Command> RunCommands() {
  const Option set{"set", Kind::kTexts, "KEY=VALUE",
                   "override a key of the file by its path; may be repeated"};
  const Option profile{"profile", Kind::kText, "NAME", "apply this one of the file's profiles"};
  return {
      {"run",
       "run",
       "run a pipeline, or continue it where it stopped",
       "FILE",
       "file",
       {set,
        profile,
        {"only", Kind::kText, "STAGE", "run this stage alone; its inputs must be there"},
        {"from", Kind::kText, "STAGE", "run this stage and the later ones anew"},
        {"fresh", Kind::kFlag, "", "run everything anew; what is there goes to .trash"},
        {"allow-inexact", Kind::kFlag, "",
         "continue although thread count, processor or libraries differ from the first part"},
        {"json", Kind::kFlag, "", "print the report as JSON"}},
       "Finished stages whose inputs did not change are skipped. Ctrl-C stops cleanly: the same\n"
       "command goes on. The folder of the run is the file's \"output\".\n"
       "\n"
       "Example:\n"
       "  retort run examples/smollm2_gsm8k/pipeline.json --set stages.sft.max_steps=20\n"},
      {"plan",
       "plan",
       "check a pipeline and print what it would do; runs nothing",
       "FILE",
       "file",
       {set, profile, {"json", Kind::kFlag, "", "print the plan as JSON"}},
       "Loads the plugins, checks every key, plugin config and reference, opens the models and\n"
       "counts the data.\n"
       "\n"
       "Example:\n"
       "  retort plan examples/smollm2_gsm8k/pipeline.json\n"},
      {"demo",
       "demo",
       "learn addition from nothing: teacher, students, reinforcement, one table",
       "",
       "",
       {{"seed", Kind::kInt, "N", "the first seed (default 1)"},
        {"seeds", Kind::kInt, "N", "how many seeds, one after the other (default 1)"},
        {"output", Kind::kText, "DIR", "folder for everything (default runs/demo)"},
        set,
        profile,
        {"json", Kind::kFlag, "", "print the table as JSON"}},
       "Writes the pipeline to DIR/pipeline.json and runs it for each seed; Ctrl-C stops cleanly, "
       "the\n"
       "same command goes on. docs/demo.md says what it shows.\n"
       "\n"
       "Example:\n"
       "  retort demo --seeds 3\n"},
  };
}

}  // namespace retort::cli
