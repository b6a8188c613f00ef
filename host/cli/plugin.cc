// plugin list, plugin info.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {

std::vector<Command> PluginCommands() {
  return {
      {"plugin list",
       "plugin.list",
       "the plugins that are built in, or named with --plugin",
       "",
       "",
       {{"kind", Kind::kText, "KIND", "only this kind: family, loss, optimizer, reward, filter"},
        {"json", Kind::kFlag, "", "print one JSON object per plugin"}},
       "Plugins come from the folder beside the library, from the files and folders in\n"
       "RETORT_PLUGIN_PATH (separated by colons) and from --plugin.\n"
       "\n"
       "Example:\n"
       "  retort plugin list --plugin build/libmy_reward.so\n"},
      {"plugin info",
       "plugin.info",
       "what a plugin is, and the keys of its config",
       "ID",
       "id",
       {{"json", Kind::kFlag, "", "print it as one JSON object, the config's schema included"}},
       "ID is a plugin's id (\"number_match\"), with its kind where that is not enough\n"
       "(\"filter/length\").\n"
       "\n"
       "Example:\n"
       "  retort plugin info reward/format\n"},
  };
}

}  // namespace retort::cli
