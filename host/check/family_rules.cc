// What a family promises: a sure match, the same graph every time, refusals of broken configs, and
// a graph that the engine can load and decode.
// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "host/check/differences.h"
#include "host/check/family_model.h"
#include "host/check/rule.h"

namespace retort::host::check {
namespace {

constexpr int64_t kElementsMax = 50'000'000;  // 200 MB of f32 weights
constexpr rlim_t kMemoryMax = rlim_t{6} << 30;

// run(family, config) on a fresh instance with a config that it understands.
template <class Fn>
Finding OnFamily(const Subject& subject, Fn&& run) {
  RETORT_FIND(const Family family, Family::Open(subject));
  if (!family.there()) return Finding::Skip("it has no " RETORT_FAMILY_INTERFACE);
  const Result<std::string> config = family.FindConfig();
  if (!config.ok() && config.status().code() == Code::kNotFound) {
    return Finding::Skip(config.status().message());
  }
  RETORT_FAIL_IF_ERROR(config.status());
  return run(family, *config);
}

// run(family, config, graph), skipped where the graph needs ops of other libraries.
template <class Fn>
Finding OnGraph(const Subject& subject, Fn&& run) {
  return OnFamily(subject, [&](const Family& family, const std::string& config) -> Finding {
    Result<graph::Graph> graph = family.Build(config);
    if (!graph.ok() && graph.status().code() == Code::kUnavailable) {
      return Finding::Skip(graph.status().message());
    }
    RETORT_FAIL_IF_ERROR(graph.status());
    return run(family, config, std::move(*graph));
  });
}

// match on a config that is not its own: OK with 0, or for what is no config of anything a refusal.
Finding ExpectNoMatch(const Family& family, const std::string& config, bool may_refuse) {
  int32_t score = 0;
  RETORT_FIND(const retort_status status, family.Match(config, &score));
  if (may_refuse && status == RETORT_INVALID_ARGUMENT) return Finding::Pass();
  if (status != RETORT_OK) {
    return Finding::Fail("match on " + config + " gave " + StatusName(status) +
                         "; it must be OK with score 0: a failure keeps other families from it");
  }
  if (score == 0) return Finding::Pass();
  return Finding::Fail("match on " + config + " gave score " + std::to_string(score) +
                       ", must be 0");
}

Finding Match(const Subject& subject) {
  RETORT_FIND(const Family family, Family::Open(subject));
  if (!family.there()) return Finding::Skip("it has no " RETORT_FAMILY_INTERFACE);
  for (const char* other :
       {"{}", R"({"model_type": "no_such_family"})", R"({"model_type": "", "hidden_size": 64})",
        R"({"architectures": ["NoSuchModel"], "vocab_size": 9})"}) {
    RETORT_PASS_OR_RETURN(ExpectNoMatch(family, other, false));
  }
  for (const char* odd : {R"({"model_type": 5})", R"({"model_type": ["llama"]})",
                          R"({"model_type": {"model_type": "llama"}})"}) {
    RETORT_PASS_OR_RETURN(ExpectNoMatch(family, odd, true));
  }
  RETORT_FIND(const std::string config, family.FindConfig());
  RETORT_FIND(const Family fresh, Family::Open(subject));
  int32_t first = 0, again = 0, other = 0;
  RETORT_FIND(const retort_status status, family.Match(config, &first));
  RETORT_FAIL_IF_ERROR(family.Match(config, &again).status());
  RETORT_FAIL_IF_ERROR(fresh.Match(config, &other).status());
  if (status != RETORT_OK || first < 1 || first > 100) {
    return Finding::Fail("match on its own config gave " + StatusName(status) + ", score " +
                         std::to_string(first) + "; must be OK with 1 to 100");
  }
  if (again == first && other == first) return Finding::Pass();
  return Finding::Fail("match on one config gave the scores " + std::to_string(first) + ", " +
                       std::to_string(again) + " and, in a fresh instance, " +
                       std::to_string(other));
}

Finding Build(const Subject& subject) {
  return OnGraph(
      subject, [&](const Family& family, const std::string& config, graph::Graph graph) -> Finding {
        RETORT_FIND(const Family fresh, Family::Open(subject));
        const std::string first = graph::Print(graph);
        RETORT_FIND(const graph::Graph again, family.Build(config));
        RETORT_FIND(const graph::Graph other, fresh.Build(config));
        if (graph::Print(again) != first) {
          return Finding::Fail("build of the same config gives another graph the second time");
        }
        if (graph::Print(other) != first) {
          return Finding::Fail("build of the same config gives another graph in a fresh instance");
        }
        return Finding::Pass();
      });
}

Finding Grown(const Subject& subject) {
  return OnGraph(
      subject,
      [&](const Family& family, const std::string& config, const graph::Graph& now) -> Finding {
        RETORT_FIND(const graph::Graph later, family.Build(config, Growth::kGrown));
        if (later.nodes.size() == now.nodes.size() && later.n_params() == now.n_params()) {
          return Finding::Pass();
        }
        return Finding::Fail(
            "with a builder table 64 bytes larger, as of a later host, build gives "
            "another graph");
      });
}

// Every element a text, and `ok` about it.
template <class Fn>
Finding CheckTexts(const json::Value& list, const char* key, Fn&& ok) {
  if (!list) return Finding::Pass();
  if (!list.is_array()) return Finding::Fail(std::string(key) + " must be an array of texts");
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_string()) return Finding::Fail(std::string(key) + " must be an array of texts");
    RETORT_PASS_OR_RETURN(ok(std::string(list[i].StringOr(""))));
  }
  return Finding::Pass();
}

bool EndsIn(const std::string& param, const std::string& target) {
  std::string_view name = param;
  if (name.ends_with(".weight")) name.remove_suffix(std::string_view(".weight").size());
  return name.ends_with(target) || std::string_view(param).ends_with(target);
}

Finding CheckDescription(const json::Value& root, const graph::Graph& graph) {
  constexpr std::string_view kKeys[] = {"lora_targets", "chat_format", "ignore", "gguf"};
  if (!root.is_object()) return Finding::Fail("describe wrote no JSON object");
  for (size_t i = 0; i < root.size(); ++i) {
    const std::string_view key = root.key_at(i);
    if (std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys)) continue;
    return Finding::Fail("describe wrote the unknown key \"" + std::string(key) +
                         "\"; there are lora_targets, chat_format, ignore and gguf");
  }
  if (root["chat_format"] && !root["chat_format"].is_string()) {
    return Finding::Fail("chat_format must be a text");
  }
  if (root["gguf"] && !root["gguf"].is_object()) return Finding::Fail("gguf must be an object");
  RETORT_PASS_OR_RETURN(
      CheckTexts(root["ignore"], "ignore", [](const std::string&) { return Finding::Pass(); }));
  return CheckTexts(root["lora_targets"], "lora_targets", [&](const std::string& target) {
    const auto ends = [&](const graph::Param& param) { return EndsIn(param.name, target); };
    if (!target.empty() && std::any_of(graph.params.begin(), graph.params.end(), ends)) {
      return Finding::Pass();
    }
    return Finding::Fail("lora_targets has \"" + target + "\", but no param's name ends so");
  });
}

Finding Describe(const Subject& subject) {
  return OnGraph(
      subject,
      [&](const Family& family, const std::string& config, const graph::Graph& graph) -> Finding {
        if (!family.describes()) return Finding::Skip("it has no describe");
        RETORT_FIND(const std::string text, family.Describe(config));
        RETORT_FIND(const std::string again, family.Describe(config));
        if (text != again) return Finding::Fail("describe of one config writes different texts");
        RETORT_FIND(const json::Document document,
                    json::Document::Parse(text, "what describe wrote"));
        return CheckDescription(document.root(), graph);
      });
}

// Bounds this process's memory as long as it lives.
class MemoryLimit {
 public:
  MemoryLimit() {
    getrlimit(RLIMIT_AS, &before_);
    const rlimit bounded{std::min(kMemoryMax, before_.rlim_max), before_.rlim_max};
    if (kBounded) setrlimit(RLIMIT_AS, &bounded);
  }
  ~MemoryLimit() {
    if (kBounded) setrlimit(RLIMIT_AS, &before_);
  }
  MemoryLimit(const MemoryLimit&) = delete;

 private:
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr bool kBounded = false;  // sanitizers reserve terabytes
#else
  static constexpr bool kBounded = true;
#endif
  rlimit before_{};
};

// The config without member `skip`, or with another value there ("" : none).
std::string With(const json::Value& config, size_t at, const std::string& value) {
  json::Writer out;
  out.BeginObject();
  for (size_t i = 0; i < config.size(); ++i) {
    if (i != at) out.Key(config.key_at(i)).Copy(config.value_at(i));
    if (i == at && !value.empty()) out.Key(config.key_at(i)).Raw(value);
  }
  return out.EndObject().Take();
}

Finding ExpectRefusedOrBuilt(const Family& family, const std::string& config,
                             const std::string& what) {
  Status graph;
  RETORT_FIND(const retort_status status, family.TryBuild(config, &graph));
  const bool host_refused =
      !graph.ok() && graph.code() != Code::kInvalidArgument && graph.code() != Code::kUnimplemented;
  if (host_refused) return Finding::Fail(what + ": " + graph.ToString());
  if (status == RETORT_OK || status == RETORT_INVALID_ARGUMENT || status == RETORT_UNIMPLEMENTED) {
    return Finding::Pass();
  }
  return Finding::Fail("build of its config with " + what + " gave " + StatusName(status) +
                       ", must be OK or INVALID_ARGUMENT (3)");
}

Finding BrokenConfigs(const Subject& subject) {
  return OnFamily(subject, [&](const Family& family, const std::string& config) -> Finding {
    // A build that takes any size for granted would take all memory.
    const MemoryLimit limit;
    RETORT_FIND(const json::Document document, json::Document::Parse(config, "config.json"));
    const json::Value root = document.root();
    Finding finding = ExpectRefusedOrBuilt(family, "{}", "no key at all");
    for (size_t i = 0; i < root.size() && finding.passed(); ++i) {
      const std::string key(root.key_at(i));
      finding = ExpectRefusedOrBuilt(family, With(root, i, ""), key + " missing");
      for (const char* value :
           {"null", "0", "-1", "1", "7", "2147483647", "4294967296", "1000000000000000000", "0.5",
            "-1e300", "true", R"("x")", "[]", "[1, 2, 3]", "{}", R"({"x": 1})"}) {
        if (!finding.passed()) break;
        finding = ExpectRefusedOrBuilt(family, With(root, i, value), key + " " + value);
      }
    }
    RETORT_PASS_OR_RETURN(finding);
    Status graph;
    RETORT_FIND(const retort_status status, family.TryBuild("{}", &graph));
    if (status != RETORT_OK || !graph.ok()) return Finding::Pass();
    return Finding::Fail(
        "build of {} gives a graph; it must be INVALID_ARGUMENT: which keys it "
        "needs is missing");
  });
}

// run(model) with random weights; skipped for want of an engine, or for size.
template <class Fn>
Finding OnModel(const Subject& subject, Finding (*if_not_loaded)(const Status&), Fn&& run) {
  return OnGraph(subject,
                 [&](const Family&, const std::string& config, graph::Graph graph) -> Finding {
                   if (graph.n_params() > kElementsMax) {
                     return Finding::Skip("its model has " + std::to_string(graph.n_params()) +
                                          " elements, more than " + std::to_string(kElementsMax) +
                                          "; give a smaller config with --model FILE");
                   }
                   if (const auto engine = OpenEngine(subject.engine_path); !engine.ok()) {
                     return Finding::Skip(engine.status().message());
                   }
                   const Result<RandomModel> made =
                       LoadRandom(subject.engine_path, std::move(graph), config, subject.seed);
                   if (!made.ok()) return if_not_loaded(made.status());
                   return run(*made->model);
                 });
}

Finding Load(const Subject& subject) {
  return OnModel(subject, Finding::Of, [&](engine::Model& model) -> Finding {
    std::vector<int32_t> ids;
    Rng rng = subject.Random("family.load");
    const auto vocab = static_cast<uint64_t>(model.graph().vocab());
    for (int i = 0; i < 24; ++i) ids.push_back(static_cast<int32_t>(rng.Below(vocab)));
    const engine::ScoreRequest request{.ids = ids, .first = 1};
    RETORT_FIND(const auto scores, model.Score({&request, 1}, 0, nullptr, {}));
    for (size_t i = 0; i < scores[0].logp.size(); ++i) {
      const double logp = scores[0].logp[i];
      if (std::isfinite(logp) && logp <= 0) continue;
      return Finding::Fail("with random weights, the log-probability of token " +
                           std::to_string(i + 1) + " is " + Number(logp));
    }
    return Finding::Pass();
  });
}

// The log-probabilities of decoding, against those of a forward pass over the whole.
Finding Decode(const Subject& subject) {
  const auto not_loaded = [](const Status&) { return Finding::Skip("see family.load"); };
  return OnModel(subject, not_loaded, [&](engine::Model& model) -> Finding {
    Rng rng = subject.Random("family.decode");
    const auto vocab = static_cast<uint64_t>(model.graph().vocab());
    std::vector<engine::GenerateRequest> requests;
    for (const size_t length : {size_t{1}, size_t{5}, size_t{30}}) {
      engine::GenerateRequest& request = requests.emplace_back();
      request.uid = length;
      for (size_t i = 0; i < length; ++i) {
        request.ids.push_back(static_cast<int32_t>(rng.Below(vocab)));
      }
      request.sampling.max_tokens = 12;
      request.sampling.seed = subject.seed;
    }
    std::vector<engine::Completion> done;
    engine::GenerateOptions options;
    options.on_done = [&](const engine::Completion& completion) { done.push_back(completion); };
    RETORT_FAIL_IF_ERROR(model.Generate(requests, options).status());
    for (const engine::Completion& completion : done) {
      if (!completion.error.empty()) return Finding::Fail("decoding failed: " + completion.error);
      const auto request = std::find_if(requests.begin(), requests.end(),
                                        [&](const auto& r) { return r.uid == completion.uid; });
      std::vector<int32_t> ids = request->ids;
      ids.insert(ids.end(), completion.ids.begin(), completion.ids.end());
      const engine::ScoreRequest whole{.ids = ids,
                                       .first = static_cast<int64_t>(request->ids.size())};
      RETORT_FIND(const auto scores, model.Score({&whole, 1}, 0, nullptr, {}));
      for (size_t i = 0; i < completion.logp.size(); ++i) {
        const double found = completion.logp[i], expected = scores[0].logp[i];
        if (std::fabs(found - expected) <= 1e-3 * std::max(1.0, std::fabs(expected))) continue;
        return Finding::Fail("token " + std::to_string(i) + " after a prompt of " +
                             std::to_string(request->ids.size()) +
                             ": decoding gives it the "
                             "log-probability " +
                             Number(found) + ", a forward pass over the whole " + Number(expected));
      }
    }
    return Finding::Pass();
  });
}

constexpr Rule kRules[] = {
    {"family.match", "R7", "match is sure of its own configs and gives 0 for others",
     "compare model_type, and give 0 for everything else; where the kit has no config of your "
     "models, give one with --model FILE",
     Match},
    {"family.build", "R6", "build gives one complete graph, the same every time",
     "use every value and param that you make, and nothing but the config", Build},
    {"family.growth", "R3", "the builder table may be larger than it knows",
     "refuse a struct only where it is smaller than in the first version", Grown},
    {"family.config", "R7", "broken configs are INVALID_ARGUMENT, never a crash",
     "check that every size is there, above 0 and sane before you use it or divide by it",
     BrokenConfigs},
    {"family.describe", "R5", "describe writes one JSON object of known keys",
     "write lora_targets (ends of your params' names), chat_format, ignore and gguf only",
     Describe},
    {"family.load", "R6", "a checkpoint with the names that the graph gives loads and scores",
     "give each checkpoint tensor's rows to one param, all of them, in the checkpoint's shape",
     Load},
    {"family.decode", "R6", "decoding token by token gives the probabilities of a forward pass",
     "number attention layers 0, 1, … in order; make custom ops keep their state", Decode},
};

}  // namespace

std::span<const Rule> FamilyRules() { return kRules; }

}  // namespace retort::host::check
