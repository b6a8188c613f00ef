// SPDX-License-Identifier: Apache-2.0
#include "host/cli/help.h"

#include <algorithm>

#include "retort/host.h"

namespace retort::cli {
namespace {

// "  left      right", the right column from `indent` on, wrapped at 96 columns.
std::string Row(const std::string& left, std::string_view right, size_t indent) {
  std::string line = "  " + left;
  line += line.size() + 2 > indent ? "\n" + std::string(indent, ' ')
                                   : std::string(indent - line.size(), ' ');
  std::string out;
  size_t column = indent;
  while (!right.empty()) {
    const size_t end = std::min(right.find(' '), right.size());
    if (column > indent && column + end > 96) {
      line += "\n" + std::string(indent, ' ');
      column = indent;
    }
    line += right.substr(0, end);
    column += end;
    right.remove_prefix(std::min(end + 1, right.size()));
    if (!right.empty()) {
      line += ' ';
      ++column;
    }
  }
  // A wrapped line ends in the blank before the break.
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == ' ' && i + 1 < line.size() && line[i + 1] == '\n') continue;
    out += line[i];
  }
  return out + "\n";
}

std::string OptionRow(const Option& option) {
  std::string left = std::string("--") + option.name;
  if (option.value_name[0] != '\0') left += std::string(" ") + option.value_name;
  return Row(left, option.help, 28);
}

std::string_view GroupOf(const Command& command) {
  const std::string_view name = command.name;
  const size_t space = name.find(' ');
  return space == std::string_view::npos ? std::string_view() : name.substr(0, space);
}

std::string CommandRow(const Command& command) {
  std::string left = command.name;
  if (command.operand[0] != '\0') left += std::string(" ") + command.operand;
  return Row(left, command.summary, 22);
}

}  // namespace

const std::vector<Command>& Commands() {
  static const std::vector<Command> all = [] {
    std::vector<Command> list;
    for (auto* group : {RunCommands, GenerateCommands, TextCommands, ChainCommands, ModelCommands,
                        PluginCommands, DoctorCommands}) {
      for (Command& command : group()) list.push_back(std::move(command));
    }
    return list;
  }();
  return all;
}

const Command* FindCommand(std::string_view name) {
  for (const Command& command : Commands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

const std::vector<Option>& CommonOptions() {
  static const std::vector<Option> options = {
      {"plugin", Kind::kTexts, "FILE", "load this plugin library too; may be repeated"},
      {"plugin-lock", Kind::kText, "FILE", "load only libraries that this plugins.lock lists"},
      {"threads", Kind::kInt, "N", "threads to use (default: all cores of this process)"},
      {"quiet", Kind::kFlag, "", "no progress on standard error"},
      {"verbose", Kind::kFlag, "", "what the library and the plugins log"},
  };
  return options;
}

bool IsGroup(std::string_view word) {
  return std::any_of(Commands().begin(), Commands().end(),
                     [&](const Command& command) { return GroupOf(command) == word; });
}

std::string GroupMembers(std::string_view group) {
  std::string out;
  for (const Command& command : Commands()) {
    if (GroupOf(command) != group) continue;
    if (!out.empty()) out += ", ";
    out += std::string_view(command.name).substr(group.size() + 1);
  }
  return out;
}

std::string GroupOverview(std::string_view group) {
  std::string out = "usage: retort " + std::string(group) + " COMMAND [options]\n\n";
  for (const Command& command : Commands()) {
    if (GroupOf(command) == group) out += CommandRow(command);
  }
  return out + "\n`retort " + std::string(group) + " COMMAND --help` says more.\n";
}

std::string Overview() {
  std::string out =
      "retort distils reasoning language models: pipelines of generation, filtering, training\n"
      "and evaluation, with plugins for every part.\n\n"
      "usage: retort COMMAND [options]\n\n";
  for (const Command& command : Commands()) out += CommandRow(command);
  return out +
         "\nResults go to standard output, progress and messages to standard error. Exit codes:\n"
         "  0  done\n"
         "  1  a failure: a model, data or plugin file, a stage\n"
         "  2  wrong in what was asked: command line, pipeline file, plugin config\n"
         " 75  stopped cleanly; the same command continues\n"
         "\n`retort COMMAND --help` says more; `retort --version` prints the version.\n";
}

std::string HelpOf(const Command& command) {
  std::string out = std::string("usage: retort ") + command.name;
  if (command.operand[0] != '\0') out += std::string(" ") + command.operand;
  for (const Option& option : command.options) {
    if (option.required) out += std::string(" --") + option.name + " " + option.value_name;
  }
  out += std::string(" [options]\n\n") + command.summary + "\n\n" + command.details;
  if (!command.options.empty()) out += "\nOptions:\n";
  for (const Option& option : command.options) out += OptionRow(option);
  out += "\nOptions of every command:\n";
  for (const Option& option : CommonOptions()) out += OptionRow(option);
  return out + OptionRow({"help", Kind::kFlag, "", "this text"});
}

}  // namespace retort::cli
