// The files of sdk/templates, embedded when the library is built (sdk/cmake/embed_templates.cmake).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace retort::host {

struct PluginTemplate {
  std::string_view name;  // below sdk/templates: "reward/c/plugin.in"
  std::string_view text;  // with @WORDS@
};

std::span<const PluginTemplate> PluginTemplates();

}  // namespace retort::host
