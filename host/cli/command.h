// A command of the program as a table: its words, options and help. The options become a JSON
// object (names with `_` for `-`) for the host's command; the program itself knows no more.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace retort::cli {

enum class Kind : unsigned char { kFlag, kText, kTexts, kInt, kNumber };

struct Option {
  const char* name;        // "max-tokens"
  Kind kind;               // kTexts: may be given several times
  const char* value_name;  // "N" in the help; "" for flags
  const char* help;
  bool required = false;
};

struct Command {
  const char* name;         // "plugin list"
  const char* host_name;    // "plugin.list"
  const char* summary;      // one line
  const char* operand;      // "MODEL", "KIND NAME", "FILE...", or "" if it takes none
  const char* operand_key;  // "model", "kind name", "files"
  std::vector<Option> options;
  const char* details;  // what it reads and writes, and an example
};

inline constexpr const char* kStorageHelp =
    "keep matrices as f32, f16, bf16, q8_0, q4_0, q4_1, q4_k, q6_k or nf4 (default auto: as the "
    "file has them)";

inline constexpr const char* kAdapterHelp =
    "a PEFT folder whose adapter runs beside MODEL's weights";

// One file each.
std::vector<Command> RunCommands();
std::vector<Command> PluginCommands();
std::vector<Command> ModelCommands();
std::vector<Command> TextCommands();
std::vector<Command> GenerateCommands();
std::vector<Command> ChainCommands();
std::vector<Command> DoctorCommands();

// All of them, in the order of the overview.
const std::vector<Command>& Commands();
const Command* FindCommand(std::string_view name);

// Options that every command takes.
const std::vector<Option>& CommonOptions();

// Parses `argv` (after the program's name) and runs it; the program's exit code. Throws
// boost::program_options::error for a malformed option.
int Main(const std::vector<std::string>& argv);

}  // namespace retort::cli
