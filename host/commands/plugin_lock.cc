// plugin.lock: asks each library what it holds and writes plugins.lock, by which other commands
// refuse whatever was not there, byte for byte, when it was written.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/lock.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/io/filesystem.h"
#include "host/commands/command.h"

namespace retort::host {
namespace {

std::string PluginsOf(const LibraryDescription& library) {
  std::string text;
  for (const PluginInfo& plugin : library.plugins) {
    text += (text.empty() ? "" : ", ") + plugin.kind + "/" + plugin.id;
  }
  return text;
}

// Each library once, in the order given.
Outcome DescribeAll(const std::vector<std::string>& files, const PluginRegistry& plugins,
                    std::vector<LibraryDescription>* out) {
  for (const std::string& file : files) {
    const std::string path = io::Absolute(file);
    const bool known = std::any_of(out->begin(), out->end(),
                                   [&](const LibraryDescription& d) { return d.path == path; });
    if (known) continue;
    Result<LibraryDescription> description = plugins.Describe(path);
    if (description.status().code() == Code::kNotFound) {
      return Outcome::Usage(description.status());
    }
    if (!description.ok()) return description.status();
    out->push_back(std::move(description).value());
  }
  return OkStatus();
}

}  // namespace

Outcome RunPluginLock(const CommandCall& call) {
  const std::vector<std::string> files = call.args.Texts("files");
  if (files.empty()) return Outcome::Usage("plugin.lock needs at least one library in \"files\"");
  const std::string output = call.args.Text("output");
  const std::string path = io::Absolute(output.empty() ? kLockFileName : output);
  RETORT_RETURN_IF_ERROR(call.session.EnsurePlugins());
  std::vector<LibraryDescription> libraries;
  const Outcome described = DescribeAll(files, call.session.plugins(), &libraries);
  if (!described.ok()) return described;
  const std::string text = MakeLock(libraries, path);
  RETORT_RETURN_IF_ERROR(io::DurableWrite(path, text));
  if (call.args.Flag("json")) {
    RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(text, path));
    return call.io.Line(document.root().Dump());
  }
  for (const LibraryDescription& library : libraries) {
    RETORT_RETURN_IF_ERROR(
        call.io.Line(library.sha256 + "  " + library.path + "  " + PluginsOf(library)));
  }
  call.io.Message("wrote " + path);
  return OkStatus();
}

}  // namespace retort::host
