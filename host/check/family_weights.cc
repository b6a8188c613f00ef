// Random weights under the checkpoint names of a graph, loaded by the engine as any model's.
// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "core/model/source.h"
#include "host/check/family_model.h"

namespace retort::host::check {
namespace {

struct Made {
  std::vector<int64_t> shape;  // as in the checkpoint
  double mean = 0, deviation = 0;
};

// Large enough that a mistake in one layer is seen in the logits.
void SetValues(const graph::Param& param, Made* made) {
  const bool constant = param.init == RETORT_INIT_CONSTANT;
  const auto columns = static_cast<double>(param.shape.back());
  made->mean = constant ? param.init_value : 0;
  made->deviation = constant || param.shape.size() < 2 ? 0.2 : 1 / std::sqrt(columns);
}

// The shape of the tensor that source `s` of the param takes rows of. Sources without rows of
// their own share the param's in equal parts.
Result<std::vector<int64_t>> ShapeOf(const graph::Param& param, const graph::Source& s) {
  std::vector<int64_t> shape = param.shape;
  int64_t rows = 1, columns = shape.size() == 1 ? 1 : shape.back();
  for (size_t d = 0; d + 1 < shape.size(); ++d) rows *= shape[d];
  if (shape.size() == 1) rows = shape[0];
  const bool all = s.row_begin == 0 && s.row_end == 0;
  const auto n = static_cast<int64_t>(param.sources.size());
  if (all && n == 1 && !s.transpose) return shape;
  if (all && rows % n != 0) {
    return Unimplemented("param " + param.name + " has " + std::to_string(n) +
                         " sources without rows: the kit can't tell their sizes");
  }
  const int64_t have = all ? rows / n : s.row_end;
  if (s.transpose) return std::vector<int64_t>{columns, have};
  if (param.shape.size() == 1) return std::vector<int64_t>{have};
  return std::vector<int64_t>{have, columns};
}

class RandomSource final : public model::Source {
 public:
  static Result<std::unique_ptr<RandomSource>> Make(const graph::Graph& graph,
                                                    const std::string& config, uint64_t seed) {
    RETORT_ASSIGN_OR_RETURN(json::Document document, json::Document::Parse(config, "config.json"));
    std::unique_ptr<RandomSource> source(new RandomSource(std::move(document), config, seed));
    for (const graph::Param& param : graph.params) {
      for (const graph::Source& part : param.sources) {
        RETORT_ASSIGN_OR_RETURN(const std::vector<int64_t> shape, ShapeOf(param, part));
        Made& made = source->made_[part.checkpoint_name];
        SetValues(param, &made);
        // Params that share a tensor: it has the rows of the last of them.
        if (made.shape.empty() || shape[0] > made.shape[0]) made.shape = shape;
      }
    }
    for (const auto& [name, made] : source->made_) {
      uint64_t bytes = 4;
      for (const int64_t d : made.shape) bytes *= static_cast<uint64_t>(d);
      source->tensors_.push_back({name, made.shape, "F32", bytes});
    }
    return source;
  }

  const std::string& path() const override { return path_; }
  bool is_gguf() const override { return false; }
  const json::Document& config() const override { return config_; }
  const std::string& config_text() const override { return config_text_; }
  const std::string& tokenizer_json() const override { return none_; }
  const std::string& tokenizer_config_json() const override { return none_; }
  const std::string& generation_config_json() const override { return none_; }
  const std::string& chat_template() const override { return none_; }
  std::span<const model::TensorInfo> tensors() const override { return tensors_; }
  const model::TensorInfo* Find(std::string_view name) const override {
    const auto at = std::find_if(tensors_.begin(), tensors_.end(),
                                 [&](const model::TensorInfo& t) { return t.name == name; });
    return at == tensors_.end() ? nullptr : &*at;
  }
  // Each element depends on (seed, name, its place), whichever rows are asked for.
  Status ReadRows(std::string_view name, int64_t begin, int64_t end,
                  const TensorView& out) const override {
    const Made& made = made_.find(std::string(name))->second;
    const int64_t each = made.shape.size() < 2 ? 1 : made.shape.back();
    const RngKey key = Derive(RootKey(seed_, "check"), name);
    for (int64_t i = begin * each; i < end * each; ++i) {
      Rng rng(Derive(key, static_cast<uint64_t>(i)));
      out.as<float>()[i - begin * each] =
          static_cast<float>(made.mean + made.deviation * rng.Normal());
    }
    return OkStatus();
  }
  Result<std::string> Fingerprint() const override { return std::string(32, '0'); }

 private:
  RandomSource(json::Document config, const std::string& text, uint64_t seed)
      : config_(std::move(config)), config_text_(text), seed_(seed) {}
  std::string path_ = "random weights";
  json::Document config_;
  std::string config_text_, none_;
  uint64_t seed_;
  std::map<std::string, Made> made_;  // sorted, as tensors() is to be
  std::vector<model::TensorInfo> tensors_;
};

}  // namespace

Result<std::unique_ptr<engine::Engine>> OpenEngine(const std::string& path) {
  if (path.empty()) return FailedPrecondition("the path of the engine is not known");
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return FailedPrecondition(std::string("no engine: ") + dlerror());
  const auto create =
      reinterpret_cast<engine::CreateEngineFn>(dlsym(library, engine::kCreateEngineSymbol));
  if (create == nullptr) return FailedPrecondition(path + " is no engine of this version");
  const engine::EngineOptions options{.n_threads = 1};
  std::unique_ptr<engine::Engine> engine(create(&options));
  if (engine == nullptr) return Internal("the engine " + path + " could not start");
  return engine;
}

Result<RandomModel> LoadRandom(const std::string& engine_path, graph::Graph graph,
                               const std::string& config, uint64_t seed) {
  RandomModel made;
  RETORT_ASSIGN_OR_RETURN(made.engine, OpenEngine(engine_path));
  RETORT_ASSIGN_OR_RETURN(const auto source, RandomSource::Make(graph, config, seed));
  RETORT_ASSIGN_OR_RETURN(made.model, made.engine->Load(*source, std::move(graph), {}));
  return made;
}

}  // namespace retort::host::check
