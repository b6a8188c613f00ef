// plugin list, plugin info, plugin new, plugin check, plugin lock.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {
namespace {

Command List() {
  return {"plugin list",
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
          "  retort plugin list --plugin build/libmy_reward.so\n"};
}

Command Info() {
  return {"plugin info",
          "plugin.info",
          "what a plugin is, and the keys of its config",
          "ID",
          "id",
          {{"json", Kind::kFlag, "", "print it as one JSON object, the config's schema included"}},
          "ID is a plugin's id (\"number_match\"), with its kind where that is not enough\n"
          "(\"filter/length\").\n"
          "\n"
          "Example:\n"
          "  retort plugin info reward/format\n"};
}

Command New() {
  return {
      "plugin new",
      "plugin.new",
      "start a plugin: writes a project with sources, a test and a README",
      "KIND NAME",
      "kind name",
      {{"lang", Kind::kText, "LANG", "c or c++ (the default)"},
       {"output", Kind::kText, "DIR", "where to write it; NAME in the current folder by default"}},
      "KIND is family, op, loss, sequence-loss, optimizer, reward, filter, source or generator.\n"
      "NAME becomes the plugin's id: a-z, 0-9, _ and -, beginning with a letter. What it writes\n"
      "is a small plugin that works and builds with the installed SDK alone\n"
      "(docs/writing-a-plugin.md). Nothing is overwritten.\n"
      "\n"
      "Example:\n"
      "  retort plugin new reward my-reward --lang c\n"};
}

Command Check() {
  return {
      "plugin check",
      "plugin.check",
      "prove that a plugin library keeps the rules of the plugin ABI",
      "FILE",
      "file",
      {{"id", Kind::kText, "ID", "only this plugin of the library: ID or KIND/ID"},
       {"config", Kind::kText, "JSON", "its config; needed where keys have no default"},
       {"seed", Kind::kInt, "N", "of the random inputs; the report names it"},
       {"only", Kind::kTexts, "RULE", "only rules whose name begins so; may be repeated"},
       {"model", Kind::kText, "FILE", "a config.json that the family builds; see docs"},
       {"inputs", Kind::kText, "SHAPES", "of an op's inputs: Tx64,64 is a value and a param"},
       {"timeout-ms", Kind::kInt, "MS", "for each rule; 30,000 by default"},
       {"json", Kind::kFlag, "", "print the report as one JSON object"}},
      "Runs every rule of docs/conformance.md on every plugin of the library, each in a child\n"
      "process: a plugin that crashes or hangs fails the rule that it did it in. Rules that need\n"
      "input make it from the seed. A plugin that refuses its default config, or reads a file,\n"
      "needs --config (and --id where the library has several plugins). The exit code is 0 if\n"
      "nothing failed.\n"
      "\n"
      "Examples:\n"
      "  retort plugin check build/libmy_reward.so\n"
      "  retort plugin check libmy_filters.so --id too_long --config '{\"max_chars\": 500}'\n"
      "  retort plugin check libmy_reward.so --only reward.split --seed 7 --json\n"};
}

Command Lock() {
  return {
      "plugin lock",
      "plugin.lock",
      "write plugins.lock: the libraries that may be loaded, with their hashes",
      "FILE...",
      "files",
      {{"output", Kind::kText, "FILE", "plugins.lock in the current folder by default"},
       {"json", Kind::kFlag, "", "print what was written as one JSON object"}},
      "Asks each library what it holds and writes its SHA-256 down. With --plugin-lock FILE, or\n"
      "for a pipeline with a plugins.lock in its folder, a library that is not listed or has "
      "other\n"
      "bytes is refused before anything of it runs. Paths below the lock's folder are written\n"
      "relative to it. An existing lock is replaced: name all libraries.\n"
      "\n"
      "Example:\n"
      "  retort plugin lock plugins/libmy_reward.so --output plugins.lock\n"};
}

}  // namespace

std::vector<Command> PluginCommands() { return {List(), Info(), New(), Check(), Lock()}; }

}  // namespace retort::cli
