// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/lock.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "core/io/filesystem.h"
#include "core/io/posix.h"
#include "core/json/json.h"
#include "host/plugin/sha256.h"

namespace retort::host {
namespace {

constexpr std::string_view kFormat = "retort.plugins.lock/1";
constexpr uint64_t kMaxBytes = uint64_t{1} << 20;

std::string At(const json::Value& value) {
  const json::Position at = value.position();
  return std::to_string(at.line) + ":" + std::to_string(at.column);
}

Status CheckKeys(const json::Value& object, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return InvalidArgument("at " + At(object) + ": not an object");
  for (size_t i = 0; i < object.size(); ++i) {
    const std::string_view key = object.key_at(i);
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return InvalidArgument("at " + At(object.value_at(i)) + ": unknown key \"" +
                             std::string(key) + "\"");
    }
  }
  return OkStatus();
}

Result<std::string> TextOf(const json::Value& object, const char* key) {
  const json::Value value = object[key];
  if (!value.is_string() || value.StringOr("").empty()) {
    return InvalidArgument("at " + At(object) + ": \"" + key + "\" must be a text");
  }
  return std::string(value.StringOr(""));
}

// Relative to `folder` if it lies in it.
std::string Shortened(const std::string& path, const std::string& folder) {
  const std::string prefix = folder.ends_with('/') ? folder : folder + "/";
  return path.starts_with(prefix) ? path.substr(prefix.size()) : path;
}

void WriteLibrary(const LibraryDescription& library, const std::string& folder, json::Writer& out) {
  out.BeginObject().Field("path", Shortened(library.path, folder));
  out.Field("library", library.library).Field("version", library.version);
  out.Field("abi", std::to_string(library.abi_major) + "." + std::to_string(library.abi_minor));
  out.Field("sha256", library.sha256).Field("bytes", library.bytes);
  out.Key("plugins").BeginArray();
  for (const PluginInfo& plugin : library.plugins) {
    out.BeginObject().Field("kind", plugin.kind).Field("id", plugin.id);
    out.Field("version", plugin.version).EndObject();
  }
  out.EndArray().EndObject();
}

}  // namespace

Result<LockFile> LockFile::Read(const std::string& path) {
  LockFile lock;
  lock.path_ = io::Absolute(path);
  const std::string what = "plugin lock " + lock.path_;
  struct stat info {};
  if (stat(lock.path_.c_str(), &info) != 0) {
    return io::SystemError("read the plugin lock", lock.path_, errno);
  }
  if ((info.st_mode & S_IWOTH) != 0) {
    return Status(Code::kPermissionDenied, what + ": anybody on this machine may write to it, so " +
                                               "it protects nothing; run chmod o-w on it");
  }
  RETORT_ASSIGN_OR_RETURN(const std::string text, io::RealFileSystem().Read(lock.path_, kMaxBytes));
  RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(text, what));
  const auto read = [&]() -> Status {
    const json::Value root = document.root();
    RETORT_RETURN_IF_ERROR(CheckKeys(root, {"format", "libraries"}));
    if (root["format"].StringOr("") != kFormat) {
      return InvalidArgument("\"format\" is " +
                             (root["format"] ? root["format"].Dump() : "absent") +
                             ", this version of retort reads \"" + std::string(kFormat) + "\"");
    }
    const json::Value list = root["libraries"];
    if (!list.is_array()) return InvalidArgument("\"libraries\" must be a list");
    for (size_t i = 0; i < list.size(); ++i) {
      RETORT_RETURN_IF_ERROR(
          CheckKeys(list[i], {"path", "library", "version", "abi", "sha256", "bytes", "plugins"}));
      Entry entry;
      RETORT_ASSIGN_OR_RETURN(entry.path, TextOf(list[i], "path"));
      RETORT_ASSIGN_OR_RETURN(entry.sha256, TextOf(list[i], "sha256"));
      if (!Sha256::IsHex(entry.sha256)) {
        return InvalidArgument("at " + At(list[i]["sha256"]) +
                               ": \"sha256\" must be 64 lower-case hexadecimal digits");
      }
      if (!entry.path.starts_with('/')) entry.path = io::Join(io::Parent(lock.path_), entry.path);
      entry.path = io::Absolute(entry.path);
      lock.entries_.push_back(std::move(entry));
    }
    return OkStatus();
  };
  const Status status = read();
  if (!status.ok()) return status.WithContext(what);
  return lock;
}

std::string LockFile::HowToLock() const {
  std::string command = "retort plugin lock --output " + path_;
  for (const Entry& entry : entries_) command += " " + entry.path;
  return command;
}

Status LockFile::Check(const std::string& library, const std::string& sha256) const {
  const auto by_path = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const Entry& e) { return e.path == library; });
  if (by_path != entries_.end() && by_path->sha256 != sha256) {
    return FailedPrecondition("plugin " + library + ": its SHA-256 is " + sha256 + ", " + path_ +
                              " expects " + by_path->sha256 +
                              ": the file was changed since it was locked. If you changed it, "
                              "lock it anew: " +
                              HowToLock());
  }
  const bool known = std::any_of(entries_.begin(), entries_.end(),
                                 [&](const Entry& e) { return e.sha256 == sha256; });
  if (known) return OkStatus();
  return FailedPrecondition("plugin " + library + ": not listed in " + path_ +
                            ", neither its path nor its SHA-256 " + sha256 +
                            ". If you trust it, lock it too: " + HowToLock() + " " + library);
}

std::string MakeLock(const std::vector<LibraryDescription>& libraries,
                     const std::string& lock_path) {
  json::Writer out(/*indent=*/2);
  out.BeginObject().Field("format", kFormat).Key("libraries").BeginArray();
  for (const LibraryDescription& library : libraries) {
    WriteLibrary(library, io::Parent(lock_path), out);
  }
  out.EndArray().EndObject();
  return out.Take() + "\n";
}

std::string LockBeside(const std::string& file) {
  std::string path = io::Join(io::Parent(io::Absolute(file)), kLockFileName);
  return io::RealFileSystem().Exists(path) ? path : "";
}

}  // namespace retort::host
