// The engine for measuring: one JSON object per line in, one out, the process stays. What is timed
// here is the engine's work alone, as the peers' scripts time theirs.
//   {"op":"open","model":PATH,"storage":"f32","lora":{"r":16,"alpha":32},"recompute":1,
//       "teacher":PATH,"loss":{"plugin":"kd","config":{}}}   the loss, sft if none, of what trains
//   {"op":"train","batches":[[{"ids":[..],"labels":[..]},..],..],"learning_rate":1e-4}
//       one optimizer step per batch; its documents are packed into one micro-batch. labels[t] is
//       the token after t, -100: none
//   {"op":"generate","prompts":[[..],..],"n":1,"max_tokens":64,"max_batch":16}   greedy
//   {"op":"encode","path":FILE}   tokenizes a text file, line by line
//   {"op":"peak"}   bytes, VmHWM
// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <utility>

#include "core/base/clock.h"
#include "core/graph/lora.h"
#include "core/json/json.h"
#include "host/session/session.h"
#include "retort/abi/draft/loss.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::host {
namespace {

const std::map<std::string_view, engine::Storage> kStorages = {
    {"auto", engine::Storage::kAuto}, {"f32", engine::Storage::kF32},
    {"f16", engine::Storage::kF16},   {"bf16", engine::Storage::kBF16},
    {"q8_0", engine::Storage::kQ8_0}, {"q4_0", engine::Storage::kQ4_0},
    {"q4_1", engine::Storage::kQ4_1}, {"q4_k", engine::Storage::kQ4_K},
    {"q6_k", engine::Storage::kQ6_K}, {"nf4", engine::Storage::kNF4}};

Result<std::vector<int32_t>> Ids(const json::Value& array) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < array.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(const int64_t id, array[i].AsInt());
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

void Append(const std::vector<int32_t>& ids, const json::Value& labels, engine::MicroBatch* batch) {
  for (size_t t = 0; t < ids.size(); ++t) {
    const int64_t next = t + 1 < ids.size() ? ids[t + 1] : -100;
    batch->ids.push_back(ids[t]);
    batch->positions.push_back(static_cast<int32_t>(t));
    batch->labels.push_back(labels.is_array() ? labels[t].IntOr(-100) : next);
    batch->weight.push_back(1);
  }
  batch->cu_seqlens.push_back(static_cast<int32_t>(batch->ids.size()));
}

SessionOptions Options(int32_t threads) {
  SessionOptions options;
  options.plugin_dir = RETORT_BUILTIN_DIR;
  options.engine_path = RETORT_ENGINE_FILE;
  options.n_threads = threads;
  return options;
}

int64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

class Driver {
 public:
  explicit Driver(int32_t threads) : session_(Options(threads)) {}

  Result<std::string> Run(const std::string& line) {
    RETORT_ASSIGN_OR_RETURN(const json::Document request, json::Document::Parse(line, "request"));
    const json::Value root = request.root();
    const std::string op(root["op"].StringOr(""));
    json::Writer out;
    out.BeginObject();
    Status status = InvalidArgument("no such op: " + op);
    if (op == "open") status = Open(root, out);
    if (op == "train") status = Train(root, out);
    if (op == "generate") status = Generate(root, out);
    if (op == "encode") status = Encode(root, out);
    if (op == "peak") status = OkStatus();
    RETORT_RETURN_IF_ERROR(status);
    out.Field("peak_bytes", PeakBytes()).EndObject();
    return out.Take();
  }

 private:
  Status Open(const json::Value& root, json::Writer& out) {
    trainer_.reset();
    model_.reset();
    const Stopwatch watch;
    RETORT_RETURN_IF_ERROR(session_.EnsurePlugins());
    RETORT_ASSIGN_OR_RETURN(opened_, session_.OpenModel(std::string(root["model"].StringOr(""))));
    RETORT_ASSIGN_OR_RETURN(graph::Graph graph, session_.BuildGraph(*opened_->source));
    engine::LoadOptions options;
    options.storage = kStorages.at(root["storage"].StringOr("f32"));
    if (root["lora"].is_object()) {
      options.for_training = true;
      options.adapters = {""};
      RETORT_RETURN_IF_ERROR(AddLora(
          graph, {.r = root["lora"]["r"].IntOr(8), .alpha = root["lora"]["alpha"].DoubleOr(8)}));
    }
    RETORT_ASSIGN_OR_RETURN(engine::Engine * engine, session_.Engine());
    RETORT_ASSIGN_OR_RETURN(model_, engine->Load(*opened_->source, std::move(graph), options));
    adapter_ = options.adapters.empty() ? -1 : 0;
    recompute_ = static_cast<int32_t>(root["recompute"].IntOr(0));
    loss_name_ = root["loss"]["plugin"].StringOr("sft");
    loss_config_ = root["loss"]["config"].is_object() ? root["loss"]["config"].Dump() : "{}";
    RETORT_RETURN_IF_ERROR(OpenTeacher(std::string(root["teacher"].StringOr(""))));
    out.Field("seconds", watch.Seconds()).Field("weight_bytes", model_->weight_bytes());
    return OkStatus();
  }

  Status OpenTeacher(const std::string& path) {
    teacher_.reset();
    if (path.empty()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(OpenedModel * opened, session_.OpenModel(path));
    RETORT_ASSIGN_OR_RETURN(graph::Graph graph, session_.BuildGraph(*opened->source));
    RETORT_ASSIGN_OR_RETURN(engine::Engine * engine, session_.Engine());
    RETORT_ASSIGN_OR_RETURN(teacher_, engine->Load(*opened->source, std::move(graph), {}));
    return OkStatus();
  }

  Status MakeTrainer() {
    const PluginRegistry& plugins = session_.plugins();
    engine::TrainerOptions options;
    options.adapter = adapter_;
    options.recompute = recompute_;
    options.teacher = teacher_.get();
    RETORT_ASSIGN_OR_RETURN(loss_, plugins.Create("loss", loss_name_, loss_config_, retort_key{}));
    RETORT_ASSIGN_OR_RETURN(optimizer_, plugins.Create("optimizer", "adamw", "{}", retort_key{}));
    options.losses = {{.name = loss_name_,
                       .table = static_cast<const retort_token_loss_v1*>(
                           loss_.interface(RETORT_TOKEN_LOSS_INTERFACE)),
                       .instance = loss_.get()}};
    options.optimizer = {.name = "adamw",
                         .table = static_cast<const retort_optimizer_v1*>(
                             optimizer_.interface(RETORT_OPTIMIZER_INTERFACE)),
                         .instance = optimizer_.get()};
    RETORT_ASSIGN_OR_RETURN(trainer_, model_->NewTrainer(options));
    step_ = 0;
    return OkStatus();
  }

  Status Train(const json::Value& root, json::Writer& out) {
    if (trainer_ == nullptr) RETORT_RETURN_IF_ERROR(MakeTrainer());
    std::vector<double> losses, norms, seconds;
    for (size_t b = 0; b < root["batches"].size(); ++b) {
      const json::Value documents = root["batches"][b];
      engine::MicroBatch batch;
      batch.cu_seqlens = {0};
      for (size_t d = 0; d < documents.size(); ++d) {
        RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, Ids(documents[d]["ids"]));
        Append(ids, documents[d]["labels"], &batch);
      }
      const Stopwatch watch;
      RETORT_ASSIGN_OR_RETURN(
          const engine::StepResult step,
          trainer_->Step({&batch, 1}, root["learning_rate"].DoubleOr(1e-4), step_++, nullptr));
      seconds.push_back(watch.Seconds());
      losses.push_back(step.loss);
      norms.push_back(step.grad_norm);
    }
    for (const auto& [key, values] : {std::pair{"losses", &losses}, std::pair{"grad_norms", &norms},
                                      std::pair{"seconds", &seconds}}) {
      out.Key(key).BeginArray();
      for (const double value : *values) out.Double(value);
      out.EndArray();
    }
    return OkStatus();
  }

  Status Generate(const json::Value& root, json::Writer& out) {
    std::vector<engine::GenerateRequest> requests;
    for (size_t p = 0; p < root["prompts"].size(); ++p) {
      engine::GenerateRequest request;
      request.uid = p;
      RETORT_ASSIGN_OR_RETURN(request.ids, Ids(root["prompts"][p]));
      request.n_samples = static_cast<int32_t>(root["n"].IntOr(1));
      request.sampling.temperature = 0;
      request.sampling.max_tokens = static_cast<int32_t>(root["max_tokens"].IntOr(64));
      requests.push_back(std::move(request));
    }
    std::vector<std::vector<int32_t>> ids(requests.size());
    engine::GenerateOptions options;
    options.adapter = adapter_;
    options.max_batch = static_cast<int32_t>(root["max_batch"].IntOr(16));
    options.on_done = [&](const engine::Completion& done) {
      if (done.index == 0) ids[done.uid] = done.ids;
    };
    const Stopwatch watch;
    RETORT_ASSIGN_OR_RETURN(const engine::GenerateStats stats, model_->Generate(requests, options));
    out.Field("seconds", watch.Seconds()).Field("prefill_seconds", stats.prefill_seconds);
    out.Field("decode_seconds", stats.decode_seconds).Field("prompt_tokens", stats.prompt_tokens);
    out.Field("completion_tokens", stats.completion_tokens).Key("ids").BeginArray();
    for (const std::vector<int32_t>& of_one : ids) {
      out.BeginArray();
      for (const int32_t id : of_one) out.Int(id);
      out.EndArray();
    }
    out.EndArray();
    return OkStatus();
  }

  Status Encode(const json::Value& root, json::Writer& out) {
    if (opened_->tokenizer == nullptr) return FailedPrecondition("the model has no tokenizer");
    std::ifstream file{std::string(root["path"].StringOr(""))};
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    int64_t tokens = 0;
    const Stopwatch watch;
    for (const std::string& line : lines) {
      RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, opened_->tokenizer->Encode(line));
      tokens += static_cast<int64_t>(ids.size());
    }
    out.Field("seconds", watch.Seconds()).Field("tokens", tokens);
    return OkStatus();
  }

  Session session_;
  OpenedModel* opened_ = nullptr;
  PluginInstance loss_, optimizer_;
  std::string loss_name_, loss_config_;
  std::unique_ptr<engine::Model> model_, teacher_;
  std::unique_ptr<engine::Trainer> trainer_;
  int32_t adapter_ = -1, recompute_ = 0;
  int64_t step_ = 0;
};

}  // namespace
}  // namespace retort::host

int main(int argc, char** argv) {
  retort::host::Driver driver(argc > 1 ? std::atoi(argv[1]) : 0);
  for (std::string line; std::getline(std::cin, line);) {
    const retort::Result<std::string> answer = driver.Run(line);
    if (answer.ok()) {
      std::cout << *answer << std::endl;
      continue;
    }
    retort::json::Writer out;
    out.BeginObject().Field("error", answer.status().ToString()).EndObject();
    std::cout << out.Take() << std::endl;
  }
  return 0;
}
