// SPDX-License-Identifier: Apache-2.0
#include "tests/golden/program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>

extern char** environ;

namespace retort::golden {
namespace fs = std::filesystem;

std::string GoldenPath(const std::string& name) {
  return std::string(RETORT_SOURCE_DIR) + "/tests/golden/" + name;
}

std::string ModelPath(const std::string& name) {
  if (name != "smollm2") return std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + name;
  return RETORT_SMOLLM2;
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("can't open " + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteText(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) throw std::runtime_error("can't write " + path);
}

std::string ScratchFolder(const std::string& name) {
  const fs::path folder = fs::path(RETORT_SCRATCH_DIR) / name;
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder.string();
}

Outcome RunRetort(const std::vector<std::string>& arguments, const std::string& input) {
  static int n_runs = 0;
  const std::string folder =
      ScratchFolder("run-" + std::to_string(getpid()) + "-" + std::to_string(n_runs++));
  WriteText(folder + "/in", input);
  std::vector<std::string> words = {RETORT_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, 0, (folder + "/in").c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, (folder + "/out").c_str(), kWrite, 0644);
  posix_spawn_file_actions_addopen(&actions, 2, (folder + "/err").c_str(), kWrite, 0644);
  pid_t pid = 0;
  const int spawned = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (spawned != 0) throw std::runtime_error(std::string("can't start ") + argv[0]);

  int status = 0;
  rusage usage{};
  wait4(pid, &status, 0, &usage);
  Outcome outcome{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                  ReadText(folder + "/out"), ReadText(folder + "/err"),
                  int64_t{usage.ru_maxrss} * 1024};
  fs::remove_all(folder);
  return outcome;
}

std::vector<json::Document> ParseLines(std::string_view text, const std::string& what) {
  std::vector<json::Document> lines;
  json::ParseOptions options;
  options.max_bytes = uint64_t{16} << 20;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string where = what + ":" + std::to_string(lines.size() + 1);
    auto document = json::Document::Parse(text.substr(0, end), where, options);
    if (!document.ok()) throw std::runtime_error(document.status().ToString());
    lines.push_back(std::move(*document));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::vector<int64_t> Ints(json::Value array) {
  std::vector<int64_t> out;
  for (size_t i = 0; i < array.size(); ++i) {
    out.push_back(array[i].IntOr(std::numeric_limits<int64_t>::min()));
  }
  return out;
}

std::vector<double> Doubles(json::Value array) {
  std::vector<double> out;
  for (size_t i = 0; i < array.size(); ++i) {
    out.push_back(array[i].DoubleOr(std::numeric_limits<double>::quiet_NaN()));
  }
  return out;
}

}  // namespace retort::golden
