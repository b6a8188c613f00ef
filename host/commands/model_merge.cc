// model.merge: an adapter's low-rank parts added to its base's weights.
// SPDX-License-Identifier: Apache-2.0
#include <span>
#include <utility>

#include "core/graph/lora.h"
#include "core/graph/value_head.h"
#include "core/model/convert.h"
#include "core/model/param_source.h"
#include "core/model/peft.h"
#include "host/commands/model_target.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

// Base weights (f32) with the adapter added.
struct Merged {
  graph::Graph graph;
  Heads heads = Heads::kAsSaved;  // that the adapter brought
  model::ParamStore params;
  model::MergeReport report;
};

Result<Merged> Merge(const CommandCall& call, const model::Source& base,
                     const std::string& folder) {
  Merged out;
  RETORT_ASSIGN_OR_RETURN(model::PeftConfig config, model::ReadPeftConfig(folder));
  const AdapterUse use = UseOf({.folder = folder, .config = std::move(config)});
  auto graph = call.session.BuildGraph(base, std::span(&use, 1), Heads::kAsSaved);
  if (!graph.ok()) return graph.status().WithContext(folder + " on " + base.path());
  out.graph = std::move(graph).value();
  constexpr int32_t adapter = 0;
  RETORT_ASSIGN_OR_RETURN(out.params, model::ParamStore::Allocate(out.graph));
  RETORT_RETURN_IF_ERROR(model::LoadParams(base, out.graph, out.params, call.n_threads));
  RETORT_RETURN_IF_ERROR(model::LoadAdapter(folder, out.graph, adapter, out.params.views()));
  if (call.cancelled()) return Cancelled("interrupted");
  RETORT_ASSIGN_OR_RETURN(
      out.report, model::MergeAdapter(out.graph, adapter, out.params.views(), {}, call.n_threads));
  if (out.graph.value_head >= 0) graph::GiveHeadTo(out.graph, -1);  // the model's own from now on
  out.heads = use.heads;
  return out;
}

bool HasBlocks(const model::Source& source) {
  for (const model::TensorInfo& tensor : source.tensors()) {
    const std::string& type = tensor.storage;
    if (type != "F32" && type != "F16" && type != "BF16" && type != "F64") return true;
  }
  return false;
}

Result<WrittenModel> Write(const CommandCall& call, const model::Source& merged,
                           const graph::Graph& graph, const ModelTarget& target, io::GgmlType type,
                           uint64_t before) {
  if (!target.gguf) {
    RETORT_ASSIGN_OR_RETURN(const DType folder, FolderType(type));
    RETORT_ASSIGN_OR_RETURN(WrittenModel written, WriteFolderTarget(call, target, merged, folder));
    written.bytes_before = before;
    return written;
  }
  model::ExportTypes types{.type = type, .head = std::nullopt};
  RETORT_ASSIGN_OR_RETURN(types.head, TypeArg(call, "head_type"));
  RETORT_ASSIGN_OR_RETURN(model::GgufExport plan, model::PlanExport(merged, graph, types));
  return WriteGgufTarget(call, target, std::move(plan), before);
}

}  // namespace

Outcome RunModelMerge(const CommandCall& call) {
  const std::string base_path = call.args.Text("base"), adapter = call.args.Text("adapter");
  const auto type = TypeArg(call, "type"), head = TypeArg(call, "head_type");
  if (!type.ok()) return Outcome::Usage(type.status());
  if (!head.ok()) return Outcome::Usage(head.status());
  const auto target = TargetOf(call, call.args.Text("target"), {base_path, adapter});
  if (!target.ok()) return Outcome::Usage(target.status());
  if (!target->gguf && type->has_value()) {
    if (const auto folder = FolderType(**type); !folder.ok())
      return Outcome::Usage(folder.status());
  }
  RETORT_ASSIGN_OR_RETURN(const auto base, model::Source::Open(base_path));
  RETORT_ASSIGN_OR_RETURN(const Merged merged, Merge(call, *base, adapter));
  RETORT_ASSIGN_OR_RETURN(const graph::Graph graph, call.session.BuildGraph(*base, merged.heads));
  if (target->gguf) RETORT_RETURN_IF_ERROR(graph::CheckHasLmHead(graph, "writing a GGUF file"));
  RETORT_ASSIGN_OR_RETURN(const auto source,
                          model::SourceOfParams(*base, merged.graph, merged.params.views()));
  const io::GgmlType wanted = type->value_or(GgmlTypeOf(model::MainType(*base)));
  RETORT_ASSIGN_OR_RETURN(const WrittenModel written,
                          Write(call, *source, graph, *target, wanted, WeightBytes(*base)));
  if (HasBlocks(*base)) {
    call.io.Warning(base_path + " is quantized: the adapter is added to its rounded weights");
  }
  if (!call.args.Flag("json")) {
    const model::MergeReport& report = merged.report;
    RETORT_RETURN_IF_ERROR(
        call.io.Lines("merged   " + std::to_string(report.n_weights) + " weights; change rms " +
                      ShortNumber(report.rms_change) + ", max " + ShortNumber(report.max_change) +
                      "\nsums     rounded to f32: rms error " + ShortNumber(report.rms_error) +
                      ", max " + ShortNumber(report.max_error)));
  }
  return Report(call, written, /*classes=*/wanted != io::GgmlType::kF32);
}

}  // namespace retort::host
