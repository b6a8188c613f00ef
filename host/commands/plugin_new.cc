// plugin.new: writes a project that builds with the installed SDK alone. The texts are the files of
// sdk/templates, embedded at build time, so that no file has to be found at run time.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/io/filesystem.h"
#include "host/commands/command.h"
#include "host/commands/plugin_templates.h"

namespace retort::host {
namespace {

// The command's word for a kind, the kind of the ABI, and how class names end.
struct PluginKind {
  const char* name;
  const char* abi_kind;
  const char* class_end;
};
constexpr PluginKind kKinds[] = {{"family", "family", "Family"},
                                 {"op", "op", "Op"},
                                 {"loss", "loss", "Loss"},
                                 {"sequence-loss", "loss", "Loss"},
                                 {"optimizer", "optimizer", "Optimizer"},
                                 {"reward", "reward", "Reward"},
                                 {"filter", "filter", "Filter"},
                                 {"source", "source", "Source"},
                                 {"generator", "generator", "Generator"}};

constexpr size_t kMaxName = 64;

std::string Hint(const std::string& word, const std::vector<std::string>& known) {
  std::string text;
  for (const std::string& k : known) text += (text.empty() ? "" : ", ") + k;
  const std::optional<std::string> nearest = json::Nearest(word, known);
  return (nearest ? "; did you mean \"" + *nearest + "\"?" : "") + " There are " + text;
}

Result<const PluginKind*> FindKind(const std::string& name) {
  std::vector<std::string> known;
  for (const PluginKind& kind : kKinds) {
    if (name == kind.name) return &kind;
    known.emplace_back(kind.name);
  }
  return InvalidArgument("no kind of plugin is called \"" + name + "\"" + Hint(name, known));
}

// "c" or "c++": also the name of the templates' folder.
Result<std::string> FindLanguage(const std::string& name) {
  if (name.empty()) return std::string("c++");
  if (name == "c" || name == "c++") return name;
  return InvalidArgument("--lang is \"" + name + "\", must be c or c++");
}

Status CheckName(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  const bool good = !name.empty() && name[0] >= 'a' && name[0] <= 'z' &&
                    std::all_of(name.begin(), name.end(), fits);
  if (!good || name.size() > kMaxName) {
    return InvalidArgument("the name \"" + name +
                           "\" is no id: it begins with a letter a-z, goes " +
                           "on with a-z, 0-9, _ and -, and has at most 64 characters");
  }
  // Targets that every CMake project has already.
  for (const char* taken : {"all", "clean", "depend", "help", "install", "package", "test"}) {
    if (name == taken) {
      return InvalidArgument("CMake keeps the name \"" + name + "\" for itself; take another");
    }
  }
  return OkStatus();
}

// "my-reward", "Reward" -> "MyReward"; "exact" -> "ExactReward".
std::string ClassName(const std::string& name, const std::string& end) {
  std::string out;
  bool up = true;
  for (const char c : name) {
    const bool is_gap = c == '-' || c == '_';
    if (!is_gap) out += up ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    up = is_gap;
  }
  return out.ends_with(end) ? out : out + end;
}

using Words = std::map<std::string, std::string, std::less<>>;

// Every @WORD@ replaced; a word that is not known is a mistake in a template.
Result<std::string> Fill(std::string_view text, const Words& words) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = text.find('@', at);
    out += text.substr(at, begin - at);
    if (begin == std::string_view::npos) break;
    const size_t end = text.find('@', begin + 1);
    const auto word = end == std::string_view::npos
                          ? words.end()
                          : words.find(text.substr(begin + 1, end - begin - 1));
    if (word == words.end()) {
      return Internal("a template has an unknown word: " + std::string(text.substr(begin, 20)));
    }
    out += word->second;
    at = end + 1;
  }
  return out;
}

Result<std::string> FillTemplate(const std::string& name, const Words& words) {
  for (const PluginTemplate& candidate : PluginTemplates()) {
    if (name == candidate.name) return Fill(candidate.text, words);
  }
  return Internal("there is no template " + name);
}

struct Project {
  const PluginKind* kind = nullptr;
  std::string lang, name;
};

Result<Words> WordsOf(const Project& project) {
  const bool is_c = project.lang == "c";
  Words words = {{"ID", project.name},
                 {"C_NAME", project.name},
                 {"CLASS", ClassName(project.name, project.kind->class_end)},
                 {"KIND", project.kind->abi_kind},
                 {"EXTENSION", is_c ? "c" : "cc"},
                 {"LANGUAGE", is_c ? "C" : "CXX"},
                 {"RETORT_VERSION", RETORT_PACKAGE_VERSION}};
  std::replace(words["C_NAME"].begin(), words["C_NAME"].end(), '-', '_');
  for (const auto& [word, file] : {std::pair{"ABOUT", "about"}, std::pair{"USE", "use"}}) {
    const std::string name = std::string(project.kind->name) + "/" + file + ".md.in";
    RETORT_ASSIGN_OR_RETURN(std::string text, FillTemplate(name, words));
    text.erase(0, text.find('\n') + 1);  // its SPDX line: the README has one
    while (text.ends_with('\n')) text.pop_back();
    words[word] = text;
  }
  return words;
}

struct File {
  std::string name, text;
};

Result<std::vector<File>> FilesOf(const Project& project) {
  RETORT_ASSIGN_OR_RETURN(const Words words, WordsOf(project));
  const std::string folder = std::string(project.kind->name) + "/" + project.lang + "/";
  const std::string source = words.at("C_NAME"), extension = "." + words.at("EXTENSION");
  const std::pair<std::string, std::string> files[] = {
      {"CMakeLists.txt", "common/CMakeLists.txt.in"},
      {source + extension, folder + "plugin.in"},
      {source + "_test" + extension, folder + "test.in"},
      {"README.md", "common/README.md.in"},
      {".gitignore", "common/gitignore.in"}};
  std::vector<File> out;
  for (const auto& [name, from] : files) {
    RETORT_ASSIGN_OR_RETURN(std::string text, FillTemplate(from, words));
    out.push_back({name, std::move(text)});
  }
  return out;
}

// A folder that isn't there, or an empty one.
Status CheckFolder(const std::string& folder) {
  io::FileSystem& fs = io::RealFileSystem();
  const Result<io::FileInfo> info = fs.Stat(folder);
  if (info.status().code() == Code::kNotFound) return OkStatus();
  RETORT_RETURN_IF_ERROR(info.status());
  if (info->kind != io::FileKind::kFolder) {
    return AlreadyExists(folder + " is there and no folder; name another with --output");
  }
  RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  if (names.empty()) return OkStatus();
  return AlreadyExists(folder + " is not empty (it has " + names[0] +
                       "): nothing is overwritten; name another with --output");
}

std::string NextSteps(const Project& project, const std::string& folder) {
  return "\nNext:\n  cd " + folder +
         "\n  cmake -B build -DCMAKE_PREFIX_PATH=<where retort's SDK is installed>\n"
         "  cmake --build build\n  ctest --test-dir build\n"
         "  retort plugin check build/lib" +
         project.name + ".so\nREADME.md says how to use it in a pipeline.\n";
}

}  // namespace

Outcome RunPluginNew(const CommandCall& call) {
  const Result<const PluginKind*> kind = FindKind(call.args.Text("kind"));
  if (!kind.ok()) return Outcome::Usage(kind.status());
  const Result<std::string> lang = FindLanguage(call.args.Text("lang"));
  if (!lang.ok()) return Outcome::Usage(lang.status());
  const Project project = {*kind, *lang, call.args.Text("name")};
  const Status named = CheckName(project.name);
  if (!named.ok()) return Outcome::Usage(named);
  const std::string folder =
      call.args.Text("output").empty() ? project.name : call.args.Text("output");
  const Status free = CheckFolder(folder);
  if (free.code() == Code::kAlreadyExists) return Outcome::Usage(free);
  RETORT_RETURN_IF_ERROR(free);

  RETORT_ASSIGN_OR_RETURN(const std::vector<File> files, FilesOf(project));
  RETORT_RETURN_IF_ERROR(io::RealFileSystem().MakeFolders(folder));
  for (const File& file : files) {
    const std::string path = io::Join(folder, file.name);
    RETORT_RETURN_IF_ERROR(io::DurableWrite(path, file.text));
    RETORT_RETURN_IF_ERROR(call.io.Line(path));
  }
  return call.io.Lines(NextSteps(project, folder));
}

}  // namespace retort::host
