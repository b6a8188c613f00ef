// From the words of the command line to one retort_command: finds the command, parses its
// options, runs it, turns its end into messages and an exit code.
// SPDX-License-Identifier: Apache-2.0
#include <boost/program_options.hpp>
#include <cstdio>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "host/cli/command.h"
#include "host/cli/help.h"
#include "host/cli/signals.h"
#include "host/cli/terminal.h"
#include "host/cli/words.h"
#include "retort/host.h"

namespace retort::cli {
namespace {

namespace po = boost::program_options;

int UsageError(const std::string& text, const std::string& help_words) {
  std::fprintf(stderr, "retort: %s\nTry `retort %s--help`.\n", text.c_str(), help_words.c_str());
  return RETORT_OUTCOME_USAGE;
}

std::string DidYouMean(const std::string& nearest) {
  return nearest.empty() ? "" : "; did you mean `" + nearest + "`?";
}

int UnknownCommand(const std::vector<std::string>& argv) {
  std::vector<std::string> known;
  for (const Command& command : Commands()) known.push_back(command.name);
  // "plugin lst": two words name a command in a group.
  const bool group = IsGroup(argv[0]);
  if (group && argv.size() < 2) {
    return UsageError("`" + argv[0] + "` needs one of: " + GroupMembers(argv[0]), argv[0] + " ");
  }
  const std::string words = group ? argv[0] + " " + argv[1] : argv[0];
  return UsageError("unknown command `" + words + "`" + DidYouMean(NearestWord(words, known)), "");
}

po::options_description Describe(const Command& command) {
  po::options_description out;
  const auto add = [&out](const Option& option) {
    switch (option.kind) {
      case Kind::kFlag: out.add_options()(option.name, po::bool_switch()); break;
      case Kind::kText: out.add_options()(option.name, po::value<std::string>()); break;
      case Kind::kTexts:
        out.add_options()(option.name, po::value<std::vector<std::string>>()->composing());
        break;
      case Kind::kInt: out.add_options()(option.name, po::value<int64_t>()); break;
      case Kind::kNumber: out.add_options()(option.name, po::value<double>()); break;
    }
  };
  for (const Option& option : command.options) add(option);
  for (const Option& option : CommonOptions()) add(option);
  out.add_options()("help,h", po::bool_switch());
  out.add_options()("operand", po::value<std::vector<std::string>>());
  return out;
}

std::string KeyOf(const Option& option) {
  std::string key = option.name;
  for (char& c : key) c = c == '-' ? '_' : c;
  return key;
}

void AddValue(const Option& option, const po::variable_value& value, JsonObject& json) {
  char number[40];
  switch (option.kind) {
    case Kind::kFlag:
      if (value.as<bool>()) json.Raw(KeyOf(option), "true");
      break;
    case Kind::kText: json.Text(KeyOf(option), value.as<std::string>()); break;
    case Kind::kTexts: json.Texts(KeyOf(option), value.as<std::vector<std::string>>()); break;
    case Kind::kInt: json.Raw(KeyOf(option), std::to_string(value.as<int64_t>())); break;
    case Kind::kNumber:
      std::snprintf(number, sizeof number, "%.17g", value.as<double>());
      json.Raw(KeyOf(option), number);
      break;
  }
}

// What the command line asked for, ready for the host; `error` if it asked wrongly.
struct Request {
  std::string args_json, error;
  int32_t n_threads = 0;
  bool help = false, quiet = false, verbose = false;
};

std::string UnknownOption(const Command& command, const std::string& token) {
  std::vector<std::string> known = {"--help"};
  for (const Option& option : command.options) known.push_back(std::string("--") + option.name);
  for (const Option& option : CommonOptions()) known.push_back(std::string("--") + option.name);
  const std::string name = token.substr(0, token.find('='));
  return "unknown option `" + name + "` of `" + command.name + "`" +
         DidYouMean(NearestWord(name, known));
}

std::vector<std::string> Words(std::string_view text) {
  std::istringstream in{std::string(text)};
  return {std::istream_iterator<std::string>(in), {}};
}

// "KIND NAME" takes two, "FILE..." one or more. What is wrong with those given, or "".
std::string AddOperands(const Command& command, const std::vector<std::string>& given,
                        JsonObject& json) {
  const std::vector<std::string> names = Words(command.operand), keys = Words(command.operand_key);
  if (given.size() < names.size()) {
    return std::string("`") + command.name + "` needs " + command.operand;
  }
  if (names.size() == 1 && names[0].ends_with("...")) {
    json.Texts(keys[0], given);
    return "";
  }
  if (given.size() > names.size()) return "unexpected argument `" + given[names.size()] + "`";
  for (size_t i = 0; i < names.size(); ++i) json.Text(keys[i], given[i]);
  return "";
}

Request Parse(const Command& command, const std::vector<std::string>& words) {
  namespace style = po::command_line_style;
  Request request;
  const po::options_description options = Describe(command);
  po::positional_options_description operands;
  operands.add("operand", -1);
  const po::parsed_options parsed = po::command_line_parser(words)
                                        .options(options)
                                        .positional(operands)
                                        .style(style::unix_style & ~style::allow_guessing)
                                        .allow_unregistered()
                                        .run();
  for (const auto& option : parsed.options) {
    if (!option.unregistered) continue;
    request.error = UnknownOption(command, option.original_tokens.at(0));
    return request;
  }
  po::variables_map values;
  po::store(parsed, values);
  request.help = values["help"].as<bool>();
  if (request.help) return request;

  JsonObject json;
  std::vector<std::string> given;
  if (values.count("operand") > 0) given = values["operand"].as<std::vector<std::string>>();
  request.error = AddOperands(command, given, json);
  if (!request.error.empty()) return request;
  for (const Option& option : command.options) {
    if (values.count(option.name) > 0) {
      AddValue(option, values[option.name], json);
    } else if (option.required) {
      request.error = std::string("`") + command.name + "` needs --" + option.name;
      return request;
    }
  }
  if (values.count("plugin") > 0) {
    json.Texts("plugins", values["plugin"].as<std::vector<std::string>>());
  }
  if (values.count("plugin-lock") > 0) {
    json.Text("plugin_lock", values["plugin-lock"].as<std::string>());
  }
  if (values.count("threads") > 0) {
    request.n_threads = static_cast<int32_t>(values["threads"].as<int64_t>());
  }
  request.quiet = values["quiet"].as<bool>();
  request.verbose = values["verbose"].as<bool>();
  request.args_json = json.Finish();
  return request;
}

// Log lines come while a bar may stand on the terminal: they go through it.
void Log(void* ctx, int32_t level, retort_str message) {
  static_cast<Terminal*>(ctx)->Message(level >= RETORT_LOG_WARNING ? "warning: " : "",
                                       {message.ptr, message.len});
}

int Run(const Command& command, const Request& request) {
  Terminal terminal(request.quiet);
  retort_context_options options{};
  options.struct_size = sizeof options;
  options.n_threads = request.n_threads;
  options.log_level = request.verbose ? RETORT_LOG_DEBUG : RETORT_LOG_WARNING;
  options.log_ctx = &terminal;
  options.log = Log;
  retort_context* context = nullptr;
  if (retort_context_create(&options, &context) != RETORT_OK) {
    terminal.Message("retort: ", "cannot start: out of memory");
    return RETORT_OUTCOME_FAILED;
  }
  retort_command_result result{};
  result.struct_size = sizeof result;
  {
    const SignalScope signals(context);
    const retort_command_io io = terminal.Io();
    retort_command(context, command.host_name, {request.args_json.data(), request.args_json.size()},
                   &io, &result);
  }
  const bool told = result.message.len == 0 || terminal.broken_pipe();
  if (!told) terminal.Message("retort: ", {result.message.ptr, result.message.len});
  const int outcome = result.outcome;
  retort_context_destroy(context);
  return outcome;
}

}  // namespace

int Main(const std::vector<std::string>& argv) {
  if (argv.empty()) {
    std::fputs(Overview().c_str(), stderr);
    return RETORT_OUTCOME_USAGE;
  }
  if (argv[0] == "--version") return std::printf("retort %s\n", retort_version()) < 0 ? 1 : 0;
  if (argv[0] == "--help" || argv[0] == "-h" || argv[0] == "help") {
    return std::fputs(Overview().c_str(), stdout) < 0 ? 1 : 0;
  }
  if (argv[0][0] == '-') {
    return UsageError("unknown option `" + argv[0] + "`; a command comes first", "");
  }
  size_t n_words = 1;
  const Command* command = FindCommand(argv[0]);
  if (command == nullptr && argv.size() > 1) {
    command = FindCommand(argv[0] + " " + argv[1]);
    n_words = 2;
    if (IsGroup(argv[0]) && (argv[1] == "--help" || argv[1] == "-h")) {
      return std::fputs(GroupOverview(argv[0]).c_str(), stdout) < 0 ? 1 : 0;
    }
  }
  if (command == nullptr) return UnknownCommand(argv);
  const Request request =
      Parse(*command, {argv.begin() + static_cast<ptrdiff_t>(n_words), argv.end()});
  if (!request.error.empty()) return UsageError(request.error, std::string(command->name) + " ");
  if (request.help) return std::fputs(HelpOf(*command).c_str(), stdout) < 0 ? 1 : 0;
  return Run(*command, request);
}

}  // namespace retort::cli
