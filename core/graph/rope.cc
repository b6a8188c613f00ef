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

Result<double> NumberOf(const json::Value& value, std::string_view key) {
  const Result<double> number = value.AsDouble();
  if (number.ok()) return number;
  return Bad("\"" + std::string(key) + "\" is " + value.Dump() + "; it must be a number");
}

// A number that must be there and positive.
Result<double> Positive(const json::Value& scaling, std::string_view key) {
  const json::Value value = scaling[key];
  if (!value) return Bad("\"" + std::string(key) + "\" is missing; this rope type needs it");
  RETORT_ASSIGN_OR_RETURN(const double number, NumberOf(value, key));
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

// A number, with a default for a key that is absent or null.
Result<double> NumberOr(const json::Value& scaling, std::string_view key, double fallback) {
  const json::Value value = scaling[key];
  if (!value || value.is_null()) return fallback;
  return NumberOf(value, key);
}

// "factor"; where it is absent or null, by how much the model's positions outnumber the original.
Result<double> StretchOf(const RopeSpec& spec, const json::Value& scaling, double original) {
  return PositiveOr(scaling, "factor", static_cast<double>(spec.max_positions) / original);
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
  RETORT_ASSIGN_OR_RETURN(const double factor, StretchOf(spec, scaling, original));
  RETORT_ASSIGN_OR_RETURN(const double fast, PositiveOr(scaling, "beta_fast", 32));
  RETORT_ASSIGN_OR_RETURN(const double slow, PositiveOr(scaling, "beta_slow", 1));
  RETORT_ASSIGN_OR_RETURN(const double mscale, NumberOr(scaling, "mscale", 0));
  RETORT_ASSIGN_OR_RETURN(const double all_dim, NumberOr(scaling, "mscale_all_dim", 0));
  const auto temperature = [&](double m) {
    return factor > 1 ? 0.1 * m * std::log(factor) + 1 : 1.0;
  };
  const bool both = mscale != 0 && all_dim != 0;
  const double usual = both ? temperature(mscale) / temperature(all_dim) : temperature(1);
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

std::string_view TypeOf(const json::Value& scaling) {
  const std::string_view type = scaling["rope_type"].StringOr("");
  return type.empty() ? scaling["type"].StringOr("default") : type;
}

// Where texts begin to be long: of "dynamic" the model's own positions, of others those that it was
// first trained with.
Result<double> OriginalPositions(const RopeSpec& spec, const json::Value& scaling) {
  const auto positions = static_cast<double>(spec.max_positions);
  if (TypeOf(scaling) == "dynamic") {
    if (positions > 0) return positions;
  } else {
    RETORT_ASSIGN_OR_RETURN(const double original,
                            PositiveOr(scaling, "original_max_position_embeddings", positions));
    if (original > 0) return original;
  }
  return Bad("the model's max_position_embeddings must be above 0");
}

// The base grows with the length, so that the slowest wave stretches with it (NTK-aware scaling).
Status ScaleDynamic(const RopeSpec& spec, const json::Value& scaling, double original,
                    double length, RopeTable& table) {
  RETORT_ASSIGN_OR_RETURN(const double factor, Positive(scaling, "factor"));
  if (spec.rotary_dim <= 2) return Bad("type \"dynamic\" needs rotary_dim above 2");
  if (length <= original) return OkStatus();
  const auto dims = static_cast<double>(spec.rotary_dim);
  const double growth = factor * length / original - (factor - 1);
  const double base = spec.theta * std::pow(growth, dims / (dims - 2));
  for (size_t j = 0; j < table.inv_freq.size(); ++j) {
    table.inv_freq[j] = std::pow(base, -2 * static_cast<double>(j) / dims);
  }
  return OkStatus();
}

Status DivideBy(const json::Value& scaling, std::string_view key, RopeTable& table) {
  const json::Value factors = scaling[key];
  const std::string name = "\"" + std::string(key) + "\"";
  if (!factors.is_array() || factors.size() != table.inv_freq.size()) {
    return Bad(name + " must be a list of " + std::to_string(table.inv_freq.size()) +
               " numbers, one per rotated pair of a head" +
               (factors.is_array() ? "; it has " + std::to_string(factors.size()) : ""));
  }
  for (size_t j = 0; j < table.inv_freq.size(); ++j) {
    RETORT_ASSIGN_OR_RETURN(const double factor, NumberOf(factors[j], key));
    if (!(factor > 0) || !std::isfinite(factor)) {
      return Bad(name + " has " + factors[j].Dump() + "; all must be above 0");
    }
    table.inv_freq[j] /= factor;
  }
  return OkStatus();
}

// Each pair has a factor of its own, from one list for short texts and another for long ones. Both
// are checked whichever is wanted.
Status ScaleLongrope(const RopeSpec& spec, const json::Value& scaling, double original,
                     double length, RopeTable& table) {
  RopeTable other = table;
  const bool is_long = length > original;
  RETORT_RETURN_IF_ERROR(DivideBy(scaling, "short_factor", is_long ? other : table));
  RETORT_RETURN_IF_ERROR(DivideBy(scaling, "long_factor", is_long ? table : other));
  RETORT_ASSIGN_OR_RETURN(const double stretch, StretchOf(spec, scaling, original));
  const double usual =
      stretch > 1 && original > 1 ? std::sqrt(1 + std::log(stretch) / std::log(original)) : 1;
  RETORT_ASSIGN_OR_RETURN(table.attention_factor, PositiveOr(scaling, "attention_factor", usual));
  return OkStatus();
}

// Only the first part of the head's pairs turns, at the pace of the whole head.
Status ScaleProportional(const json::Value& scaling, RopeTable& table) {
  RETORT_ASSIGN_OR_RETURN(const double factor, PositiveOr(scaling, "factor", 1));
  RETORT_ASSIGN_OR_RETURN(const double part, PositiveOr(scaling, "partial_rotary_factor", 1));
  const double turning = std::floor(part * static_cast<double>(table.inv_freq.size()));
  for (size_t j = 0; j < table.inv_freq.size(); ++j) {
    table.inv_freq[j] = static_cast<double>(j) < turning ? table.inv_freq[j] / factor : 0;
  }
  return OkStatus();
}

Status ApplyScaling(const RopeSpec& spec, const json::Value& scaling, double length,
                    RopeTable& table) {
  const std::string_view type = TypeOf(scaling);
  if (type == "default") return OkStatus();
  if (type == "proportional") return ScaleProportional(scaling, table);
  if (type == "linear") {
    RETORT_ASSIGN_OR_RETURN(const double factor, Positive(scaling, "factor"));
    for (double& f : table.inv_freq) f /= factor;
    return OkStatus();
  }
  RETORT_ASSIGN_OR_RETURN(const double original, OriginalPositions(spec, scaling));
  if (type == "dynamic") return ScaleDynamic(spec, scaling, original, length, table);
  if (type == "llama3") return ScaleLlama3(scaling, original, table);
  if (type == "yarn") return ScaleYarn(spec, scaling, original, table);
  if (type == "longrope") return ScaleLongrope(spec, scaling, original, length, table);
  return Unimplemented("rope scaling: type \"" + std::string(type) +
                       "\" is not supported; supported are default, linear, dynamic, llama3, "
                       "yarn, longrope and proportional");
}

// Calls fn(the scaling object); nothing where there is none.
template <class Fn>
Status WithScaling(const RopeSpec& spec, Fn&& fn) {
  if (spec.scaling_json.empty()) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const json::Document document,
                          json::Document::Parse(spec.scaling_json, "rope scaling"));
  const json::Value scaling = document.root();
  if (scaling.is_null()) return OkStatus();
  if (!scaling.is_object()) return Bad("must be a JSON object, not " + scaling.Dump());
  return fn(scaling);
}

}  // namespace

Result<RopeTable> MakeRopeTable(const RopeSpec& spec, int64_t length) {
  RETORT_RETURN_IF_ERROR(CheckSpec(spec));
  RopeTable table;
  for (int64_t j = 0; j < spec.rotary_dim; j += 2) {
    const double exponent = static_cast<double>(j) / static_cast<double>(spec.rotary_dim);
    table.inv_freq.push_back(std::pow(spec.theta, -exponent));
  }
  RETORT_RETURN_IF_ERROR(WithScaling(spec, [&](const json::Value& scaling) {
    return ApplyScaling(spec, scaling, static_cast<double>(length), table);
  }));
  return table;
}

Result<RopeLengths> RopeLengthsOf(const RopeSpec& spec) {
  RopeLengths lengths;
  RETORT_RETURN_IF_ERROR(WithScaling(spec, [&](const json::Value& scaling) -> Status {
    const bool by_list = TypeOf(scaling) == "longrope";
    if (!by_list && TypeOf(scaling) != "dynamic") return OkStatus();
    RETORT_ASSIGN_OR_RETURN(const double original, OriginalPositions(spec, scaling));
    lengths = {.limit = static_cast<int64_t>(original), .stale_above = by_list};
    return OkStatus();
  }));
  return lengths;
}

std::vector<int64_t> StaleLengths(const Graph& graph) {
  std::vector<int64_t> limits;
  for (const Node& node : graph.nodes) {
    if (node.op != Op::kRope) continue;
    const auto lengths = RopeLengthsOf(node.rope);  // checked when the node was made
    if (lengths->stale_above) limits.push_back(lengths->limit);
  }
  std::sort(limits.begin(), limits.end());
  limits.erase(std::unique(limits.begin(), limits.end()), limits.end());
  return limits;
}

}  // namespace retort::graph
