// SPDX-License-Identifier: Apache-2.0
#include "core/base/system_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

namespace retort {
namespace {

// The number after "Key:" in a file of lines "Key:   123 kB", in bytes; 0: not there.
int64_t KilobytesOf(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string name;
    int64_t kilobytes = 0;
    if (fields >> name >> kilobytes && name == key + ":") return kilobytes * 1024;
  }
  return 0;
}

// A limit of a control group; 0: none ("max"), or no such file.
int64_t LimitIn(const std::string& file) {
  std::ifstream in(file);
  int64_t bytes = 0;
  return in >> bytes ? bytes : 0;
}

// The path of the process's control group, "" where there is none. Lines are "id:controllers:path";
// version 2 has no controllers.
std::string GroupPath(const std::string& controller) {
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    if (line.substr(first + 1, second - first - 1) == controller) return line.substr(second + 1);
  }
  return "";
}

}  // namespace

int64_t MemoryAllowed() {
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  int64_t least = kNone;
  const auto take = [&](int64_t bytes) {
    if (bytes > 0) least = std::min(least, bytes);
  };
  take(KilobytesOf("/proc/meminfo", "MemTotal"));
  const std::string root = "/sys/fs/cgroup";
  // A group's limit binds those below it, so every one on the way up counts.
  for (std::string path = GroupPath("");; path = path.substr(0, path.rfind('/'))) {
    take(LimitIn(root + path + "/memory.max"));
    if (path.empty() || path.find('/') == std::string::npos) break;
  }
  take(LimitIn(root + "/memory" + GroupPath("memory") + "/memory.limit_in_bytes"));
  take(LimitIn(root + "/memory/memory.limit_in_bytes"));
  return least == kNone ? 0 : least;
}

int64_t PeakResidentBytes() { return KilobytesOf("/proc/self/status", "VmHWM"); }

}  // namespace retort
