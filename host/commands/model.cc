// model.show: the layer graph and what else is known of a model; reads no weights.
// SPDX-License-Identifier: Apache-2.0
#include "host/commands/model.h"

#include <map>
#include <utility>

#include "core/model/gguf_arch.h"
#include "core/model/layout.h"
#include "host/commands/command.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

// Bytes on disk by storage type: "Q4_1" -> bytes.
std::map<std::string, uint64_t> StorageOf(const model::Source& source) {
  std::map<std::string, uint64_t> bytes;
  for (const model::TensorInfo& tensor : source.tensors()) bytes[tensor.storage] += tensor.bytes;
  return bytes;
}

// What `storage` auto keeps of it in memory.
model::StorageReport KeptOf(const OpenedModel& model, const graph::Graph& graph) {
  return model::ReportStorage(
      graph, model::PlanStorage(graph, {.storage = model::Storage::kAuto}, model.source.get()));
}

// By class of tensors ("mlp.up_proj") and type: what of a quantized model is kept wider.
struct Stored {
  int64_t tensors = 0, weights = 0;
  uint64_t bytes = 0;
};
std::map<std::pair<std::string, std::string>, Stored> ClassesOf(const model::Source& source) {
  std::map<std::pair<std::string, std::string>, Stored> classes;
  for (const model::TensorInfo& tensor : source.tensors()) {
    Stored& stored = classes[{model::TensorClass(tensor.name), tensor.storage}];
    const model::RowsCols m = model::AsMatrix(tensor.shape);
    ++stored.tensors;
    stored.weights += m.rows * m.cols;
    stored.bytes += tensor.bytes;
  }
  return classes;
}

std::string ClassTable(const model::Source& source) {
  using enum Align;
  Table table({{"tensors", kLeft},
               {"type", kLeft},
               {"count", kRight},
               {"weights", kRight},
               {"size", kRight}});
  for (const auto& [key, stored] : ClassesOf(source)) {
    table.AddRow({key.first, key.second, std::to_string(stored.tensors),
                  GroupedInteger(stored.weights), ShortBytes(static_cast<double>(stored.bytes))});
  }
  return table.empty() ? "" : table.Render() + "\n";
}

std::string StopText(const OpenedModel& model) {
  std::string text;
  for (const int32_t id : model.stop_ids) {
    text += (text.empty() ? "" : ", ") + std::to_string(id);
    if (model.tokenizer != nullptr) {
      text += " " + std::string(model.tokenizer->IdToToken(id));
    }
  }
  return text.empty() ? "none" : text;
}

std::string Summary(const OpenedModel& model, const graph::Graph& graph) {
  const json::Value config = model.source->config().root();
  std::string out = "model       " + model.path + (model.source->is_gguf() ? " (GGUF)" : "") +
                    "\nmodel_type  " + std::string(config["model_type"].StringOr("?")) +
                    ", family " + graph.family + "\nparameters  " +
                    GroupedInteger(graph.n_params()) + "\nstorage     ";
  bool first = true;
  for (const auto& [type, bytes] : StorageOf(*model.source)) {
    out += (first ? "" : ", ") + type + " " + ShortBytes(static_cast<double>(bytes));
    first = false;
  }
  out += "\nin memory   " + model::StorageText(KeptOf(model, graph)) + " (storage auto)";
  out += "\ntokenizer   ";
  out += model.tokenizer == nullptr ? "none"
                                    : GroupedInteger(model.tokenizer->vocab_size()) +
                                          " ids, hash " + model.tokenizer->hash();
  out += "\nchat        " +
         (model.chat.has_value() ? model.chat->name() : "none: " + model.chat_status.message());
  return out + "\nstop ids    " + StopText(model) + "\n\n";
}

}  // namespace

std::string ModelJson(const OpenedModel& model, const graph::Graph& graph) {
  json::Writer out;
  out.BeginObject().Field("path", model.path).Field("gguf", model.source->is_gguf());
  out.Field("model_type", model.source->config().root()["model_type"].StringOr(""));
  out.Field("family", graph.family).Field("parameters", graph.n_params());
  out.Field("blocks", static_cast<int64_t>(graph.n_blocks));
  out.Field("hidden_size", graph.width()).Field("vocab_size", graph.vocab());
  out.Key("storage").BeginObject();
  for (const auto& [type, bytes] : StorageOf(*model.source)) out.Field(type, bytes);
  out.EndObject();
  out.Key("kept").BeginObject();
  for (const model::StorageReport::Part& part : KeptOf(model, graph).parts) {
    out.Field(DTypeName(part.dtype), part.bytes);
  }
  out.EndObject().Key("tensors").BeginArray();
  for (const auto& [key, stored] : ClassesOf(*model.source)) {
    out.BeginObject().Field("class", key.first).Field("type", key.second);
    out.Field("tensors", stored.tensors).Field("weights", stored.weights);
    out.Field("bytes", stored.bytes).EndObject();
  }
  out.EndArray().Key("chat_format");
  model.chat.has_value() ? out.String(model.chat->name()) : out.Null();
  out.Key("tokenizer_hash");
  model.tokenizer != nullptr ? out.String(model.tokenizer->hash()) : out.Null();
  out.Key("stop_ids").BeginArray();
  for (const int32_t id : model.stop_ids) out.Int(id);
  out.EndArray();
  out.Key("nodes").BeginArray();
  for (const graph::Node& node : graph.nodes) {
    out.BeginObject().Field("op", graph::OpName(node.op));
    out.Field("block", static_cast<int64_t>(node.block));
    out.Field("width", graph.values[static_cast<size_t>(node.out)].width);
    out.Key("params").BeginArray();
    for (const int32_t param : node.params) {
      if (param >= 0) out.String(graph.params[static_cast<size_t>(param)].name);
    }
    out.EndArray().EndObject();
  }
  return out.EndArray().EndObject().Take();
}

Outcome RunModelShow(const CommandCall& call) {
  RETORT_ASSIGN_OR_RETURN(const OpenedModel* model,
                          call.session.OpenModel(call.args.Text("model")));
  RETORT_ASSIGN_OR_RETURN(const graph::Graph graph, call.session.BuildGraph(*model->source));
  if (call.args.Flag("json")) return call.io.Line(ModelJson(*model, graph));
  return call.io.Lines(Summary(*model, graph) + ClassTable(*model->source) + graph::Print(graph));
}

}  // namespace retort::host
