// SPDX-License-Identifier: Apache-2.0
#include "core/graph/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <string_view>

#include "core/json/json.h"

namespace retort::graph {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

Status Bad(const std::string& what) { return InvalidArgument("rope scaling: " + what); }

// A number that must be there and positive.
Result<double> Positive(const json::Value& scaling, std::string_view key) {
  const json::Value value = scaling[key];
  if (!value) return Bad("\"" + std::string(key) + "\" is missing; this rope type needs it");
  RETORT_ASSIGN_OR_RETURN(const double number, value.AsDouble());
  if (!(number > 0) || !std::isfinite(number)) {
    return Bad("\"" + std::string(key) + "\" is " + value.Dump() + "; it must be above 0");
  }
  return number;
}

// As above, with a default for a key that is absent or null.
Result<double> PositiveOr(const json::Value& scaling, std::string_view key, double fallback) {
  const json::Value value = scaling[key];
  if (!value || value.is_null()) return fallback;
  return Positive(scaling, key);
}

// Slow waves are stretched by `factor`, fast ones stay, those between are blended.
Status ScaleLlama3(const json::Value& scaling, double original, RopeTable& table) {
  RETORT_ASSIGN_OR_RETURN(const double factor, Positive(scaling, "factor"));
  RETORT_ASSIGN_OR_RETURN(const double low, Positive(scaling, "low_freq_factor"));
  RETORT_ASSIGN_OR_RETURN(const double high, Positive(scaling, "high_freq_factor"));
  if (high <= low) return Bad("\"high_freq_factor\" must be above \"low_freq_factor\"");
  for (double& f : table.inv_freq) {
    const double wavelength = kTwoPi / f;
    if (wavelength < original / high) continue;
    if (wavelength > original / low) {
      f /= factor;
      continue;
    }
    const double blend = (original / wavelength - low) / (high - low);
    f = (1 - blend) * f / factor + blend * f;
  }
  return OkStatus();
}

// Blends from unscaled to scaled between the dimensions that turn beta_fast and beta_slow
// times within the original length; attention is scaled by the temperature of the YaRN paper.
Status ScaleYarn(const RopeSpec& spec, const json::Value& scaling, double original,
                 RopeTable& table) {
  if (scaling["mscale"] || scaling["mscale_all_dim"]) {
    return Unimplemented("rope scaling: yarn with \"mscale\" is not supported");
  }
  RETORT_ASSIGN_OR_RETURN(const double factor, Positive(scaling, "factor"));
  RETORT_ASSIGN_OR_RETURN(const double fast, PositiveOr(scaling, "beta_fast", 32));
  RETORT_ASSIGN_OR_RETURN(const double slow, PositiveOr(scaling, "beta_slow", 1));
  const double usual = factor > 1 ? 0.1 * std::log(factor) + 1 : 1;
  RETORT_ASSIGN_OR_RETURN(table.attention_factor, PositiveOr(scaling, "attention_factor", usual));
  const auto dims = static_cast<double>(spec.rotary_dim);
  const auto dimension_of = [&](double turns) {
    return dims * std::log(original / (turns * kTwoPi)) / (2 * std::log(spec.theta));
  };
  const bool truncate = scaling["truncate"].BoolOr(true);
  double first = dimension_of(fast), last = dimension_of(slow);
  if (truncate) first = std::floor(first), last = std::ceil(last);
  first = std::max(first, 0.0);
  last = std::min(last, dims - 1);
  if (first == last) last += 0.001;  // the width of the ramp is a divisor
  for (size_t j = 0; j < table.inv_freq.size(); ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - first) / (last - first), 0.0, 1.0);
    table.inv_freq[j] *= 1 - ramp + ramp / factor;
  }
  return OkStatus();
}

Status CheckSpec(const RopeSpec& spec) {
  if (spec.rotary_dim <= 0 || spec.rotary_dim % 2 != 0) {
    return InvalidArgument("rope: rotary_dim is " + std::to_string(spec.rotary_dim) +
                           "; it must be even and above 0");
  }
  if (!(spec.theta > 1) || !std::isfinite(spec.theta)) {
    return InvalidArgument("rope: theta is " + std::to_string(spec.theta) + "; it must be above 1");
  }
  return OkStatus();
}

Status ApplyScaling(const RopeSpec& spec, const json::Value& scaling, RopeTable& table) {
  std::string_view type = scaling["rope_type"].StringOr("");
  if (type.empty()) type = scaling["type"].StringOr("default");
  if (type == "default") return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const double original,
                          PositiveOr(scaling, "original_max_position_embeddings",
                                     static_cast<double>(spec.max_positions)));
  if (original <= 0) return Bad("the model's max_position_embeddings must be above 0");
  if (type == "linear") {
    RETORT_ASSIGN_OR_RETURN(const double factor, Positive(scaling, "factor"));
    for (double& f : table.inv_freq) f /= factor;
    return OkStatus();
  }
  if (type == "dynamic") {
    table.position_limit = static_cast<int64_t>(original);
    return Positive(scaling, "factor").status();
  }
  if (type == "llama3") return ScaleLlama3(scaling, original, table);
  if (type == "yarn") return ScaleYarn(spec, scaling, original, table);
  return Unimplemented("rope scaling: type \"" + std::string(type) +
                       "\" is not supported; supported are default, linear, dynamic, llama3 "
                       "and yarn");
}

}  // namespace

Result<RopeTable> MakeRopeTable(const RopeSpec& spec) {
  RETORT_RETURN_IF_ERROR(CheckSpec(spec));
  RopeTable table;
  for (int64_t j = 0; j < spec.rotary_dim; j += 2) {
    const double exponent = static_cast<double>(j) / static_cast<double>(spec.rotary_dim);
    table.inv_freq.push_back(std::pow(spec.theta, -exponent));
  }
  if (spec.scaling_json.empty()) return table;
  RETORT_ASSIGN_OR_RETURN(const json::Document document,
                          json::Document::Parse(spec.scaling_json, "rope scaling"));
  const json::Value scaling = document.root();
  if (scaling.is_null()) return table;
  if (!scaling.is_object()) return Bad("must be a JSON object, not " + scaling.Dump());
  RETORT_RETURN_IF_ERROR(ApplyScaling(spec, scaling, table));
  return table;
}

}  // namespace retort::graph
