// model.convert and model.quantize: a model in another form or type.
// SPDX-License-Identifier: Apache-2.0
#include "core/model/convert.h"
#include "host/commands/model_target.h"

namespace retort::host {
namespace {

Result<model::ExportTypes> TypesOf(const CommandCall& call, io::GgmlType type) {
  model::ExportTypes types{.type = type, .head = std::nullopt};
  RETORT_ASSIGN_OR_RETURN(types.head, TypeArg(call, "head_type"));
  return types;
}

Result<WrittenModel> ToGguf(const CommandCall& call, const model::Source& source,
                            const ModelTarget& target, io::GgmlType type) {
  RETORT_ASSIGN_OR_RETURN(const model::ExportTypes types, TypesOf(call, type));
  const uint64_t before = WeightBytes(source);
  if (source.is_gguf()) {
    RETORT_ASSIGN_OR_RETURN(const io::Gguf gguf, io::Gguf::Open(source.path()));
    RETORT_ASSIGN_OR_RETURN(model::GgufExport plan, model::PlanRequantize(gguf, types));
    return WriteGgufTarget(call, target, std::move(plan), before);
  }
  RETORT_ASSIGN_OR_RETURN(const graph::Graph graph, call.session.BuildGraph(source));
  RETORT_ASSIGN_OR_RETURN(model::GgufExport plan, model::PlanExport(source, graph, types));
  return WriteGgufTarget(call, target, std::move(plan), before);
}

// What isn't read as a model may still be a GGUF of an unknown architecture.
Result<WrittenModel> FromUnknown(const CommandCall& call, const std::string& path,
                                 const ModelTarget& target, io::GgmlType type) {
  RETORT_ASSIGN_OR_RETURN(const io::Gguf gguf, io::Gguf::Open(path));
  RETORT_ASSIGN_OR_RETURN(const model::ExportTypes types, TypesOf(call, type));
  RETORT_ASSIGN_OR_RETURN(model::GgufExport plan, model::PlanRequantize(gguf, types));
  return WriteGgufTarget(call, target, std::move(plan), gguf.file_bytes().size());
}

Outcome Write(const CommandCall& call, bool quantize) {
  const std::string from = call.args.Text("source"), to = call.args.Text("target");
  if (quantize && !to.ends_with(".gguf")) {
    return Outcome::Usage(to + ": quantized models are GGUF files; end the name in .gguf");
  }
  const auto type = TypeArg(call, "type");
  if (!type.ok()) return Outcome::Usage(type.status());
  if (const auto head = TypeArg(call, "head_type"); !head.ok()) {
    return Outcome::Usage(head.status());
  }
  const auto target = TargetOf(call, to, {from});
  if (!target.ok()) return Outcome::Usage(target.status());
  if (!target->gguf && type->has_value()) {
    if (const auto folder = FolderType(**type); !folder.ok())
      return Outcome::Usage(folder.status());
  }
  const auto source = model::Source::Open(from);
  const bool both_gguf = target->gguf && from.ends_with(".gguf");
  if (both_gguf && !type->has_value()) {
    return Outcome::Usage("a GGUF into a GGUF needs \"type\": one of " + model::ExportTypeNames());
  }
  if (!source.ok()) {
    const bool unknown = source.status().code() == Code::kUnimplemented && both_gguf;
    if (!unknown) return source.status();
    RETORT_ASSIGN_OR_RETURN(const WrittenModel written, FromUnknown(call, from, *target, **type));
    return Report(call, written, quantize);
  }
  const io::GgmlType wanted = type->value_or(GgmlTypeOf(model::MainType(**source)));
  if (target->gguf) {
    RETORT_ASSIGN_OR_RETURN(const WrittenModel written, ToGguf(call, **source, *target, wanted));
    return Report(call, written, quantize);
  }
  RETORT_ASSIGN_OR_RETURN(const DType folder, FolderType(wanted));
  if ((*source)->tensors().empty()) {
    return FailedPrecondition(from + ": there are no weights (model.safetensors)");
  }
  RETORT_ASSIGN_OR_RETURN(const WrittenModel written,
                          WriteFolderTarget(call, *target, **source, folder));
  return Report(call, written, quantize);
}

}  // namespace

Outcome RunModelConvert(const CommandCall& call) { return Write(call, /*quantize=*/false); }
Outcome RunModelQuantize(const CommandCall& call) { return Write(call, /*quantize=*/true); }

}  // namespace retort::host
