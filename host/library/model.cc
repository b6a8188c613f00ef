// Models: opened, asked, and what their tokenizer and chat format do.
// SPDX-License-Identifier: Apache-2.0
#include "host/library/model.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "core/data/record.h"
#include "core/io/jsonl.h"
#include "core/json/json.h"
#include "host/commands/lines.h"
#include "host/commands/model.h"
#include "host/library/edge.h"

namespace retort::host {
namespace {

Status Open(retort_context& context, const retort_model_options* options, retort_model** out) {
  retort_model_options known{};
  RETORT_RETURN_IF_ERROR(ReadStruct(options, "retort_model_options", known));
  RETORT_RETURN_IF_ERROR(CheckFlags(known.flags, 0, "retort_model_options"));
  RETORT_ASSIGN_OR_RETURN(const std::string path, PathOf(known.path, "retort_model_options.path"));
  const std::string format(ToView(known.chat_format)), adapter(ToView(known.adapter));
  auto object = std::make_shared<ModelObject>();
  if (const std::string_view storage = ToView(known.storage); !storage.empty()) {
    RETORT_ASSIGN_OR_RETURN(object->storage, model::ParseStorage(storage));
  }
  RETORT_ASSIGN_OR_RETURN(object->opened, context.state->session.OpenModel(path, format, adapter));
  object->chose_chat_format = !format.empty();
  // A format that the caller named must exist; a model without one is only told when asked.
  if (object->chose_chat_format && !object->opened->chat.has_value()) {
    return object->opened->chat_status;
  }
  *out = std::make_unique<retort_model>(context.state, std::move(object)).release();
  return OkStatus();
}

Status Tokenize(const ModelObject& model, retort_str text, uint32_t flags, std::span<int32_t> room,
                uint64_t* n) {
  if (n == nullptr) return InvalidArgument("n: NULL; it gets the number of ids");
  *n = 0;
  RETORT_RETURN_IF_ERROR(CheckFlags(flags, RETORT_TOKENIZE_NO_SPECIAL_TOKENS, "flags"));
  RETORT_RETURN_IF_ERROR(CheckUtf8(ToView(text), "text"));
  RETORT_ASSIGN_OR_RETURN(const text::Tokenizer* tokenizer, TokenizerOf(*model.opened));
  const bool special = (flags & RETORT_TOKENIZE_NO_SPECIAL_TOKENS) == 0;
  RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                          tokenizer->Encode(ToView(text), {.add_special_tokens = special}));
  *n = ids.size();
  const size_t fits = std::min(ids.size(), room.size());
  std::copy_n(ids.begin(), fits, room.begin());
  if (fits == ids.size() || room.empty()) return OkStatus();
  return OutOfRange("the text has " + std::to_string(ids.size()) + " tokens, there is room for " +
                    std::to_string(room.size()) + "; call again with more");
}

Status Detokenize(const ModelObject& model, std::span<const int32_t> ids, uint32_t flags,
                  const retort_sink* out) {
  RETORT_RETURN_IF_ERROR(CheckFlags(flags, RETORT_DETOKENIZE_SKIP_SPECIAL_TOKENS, "flags"));
  RETORT_RETURN_IF_ERROR(CheckSink(out, "text"));
  RETORT_ASSIGN_OR_RETURN(const text::Tokenizer* tokenizer, TokenizerOf(*model.opened));
  const bool skip = (flags & RETORT_DETOKENIZE_SKIP_SPECIAL_TOKENS) != 0;
  RETORT_ASSIGN_OR_RETURN(const std::string text, tokenizer->Decode(ids, skip));
  return WriteAll(out, text);
}

Status RenderChat(const ModelObject& model, retort_str messages, uint32_t flags,
                  const retort_sink* out) {
  RETORT_RETURN_IF_ERROR(CheckFlags(flags, RETORT_CHAT_GENERATION_PROMPT, "flags"));
  RETORT_RETURN_IF_ERROR(CheckSink(out, "text"));
  if (!model.opened->chat.has_value()) return model.opened->chat_status;
  json::ParseOptions limits;
  limits.max_bytes = io::kMaxLineBytes;
  RETORT_ASSIGN_OR_RETURN(const json::Document document,
                          json::Document::Parse(ToView(messages), "messages", limits));
  RETORT_ASSIGN_OR_RETURN(const std::vector<text::Message> list,
                          data::ReadMessages(document.root(), "messages"));
  const bool prompt = (flags & RETORT_CHAT_GENERATION_PROMPT) != 0;
  RETORT_ASSIGN_OR_RETURN(const std::string text, model.opened->chat->Render(list, prompt));
  return WriteAll(out, text);
}

}  // namespace

Result<engine::Model*> WeightsOf(ContextState& state, ModelObject& model) {
  if (model.weights == nullptr) {
    RETORT_ASSIGN_OR_RETURN(model.weights,
                            state.session.LoadModel(*model.opened, {.storage = model.storage}));
  }
  return model.weights.get();
}

}  // namespace retort::host

using retort::Status;
using retort::host::Guard;
using retort::host::RunCall;
using retort::host::RunStoppableCall;

extern "C" {

retort_status retort_model_open(retort_context* context, const retort_model_options* options,
                                retort_model** out) {
  if (out != nullptr) *out = nullptr;
  if (context == nullptr || out == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = context->state;
  return RunCall(state, [&] { return retort::host::Open(*context, options, out); });
}

void retort_model_destroy(retort_model* model) {
  (void)Guard([&]() -> Status {
    const std::unique_ptr<retort_model> owner(model);
    return {};
  });
}

retort_status retort_model_load(retort_model* model) {
  if (model == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = model->state;
  const auto object = model->object;
  return RunCall(state, [&] { return retort::host::WeightsOf(*state, *object).status(); });
}

retort_status retort_model_info(retort_model* model, const retort_sink* json) {
  if (model == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = model->state;
  const auto object = model->object;
  return RunCall(state, [&]() -> Status {
    RETORT_RETURN_IF_ERROR(retort::host::CheckSink(json, "json"));
    RETORT_ASSIGN_OR_RETURN(const retort::graph::Graph graph,
                            state->session.BuildGraph(*object->opened->source));
    return retort::host::WriteAll(json, retort::host::ModelJson(*object->opened, graph));
  });
}

retort_status retort_model_tokenize(retort_model* model, retort_str text, uint32_t flags,
                                    int32_t* ids, uint64_t capacity, uint64_t* n) {
  if (model == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto object = model->object;
  const std::span<int32_t> room(ids, ids == nullptr ? 0 : capacity);
  return RunCall(std::shared_ptr(model->state),
                 [&] { return retort::host::Tokenize(*object, text, flags, room, n); });
}

retort_status retort_model_detokenize(retort_model* model, const int32_t* ids, uint64_t n,
                                      uint32_t flags, const retort_sink* text) {
  if (model == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto object = model->object;
  return RunCall(std::shared_ptr(model->state), [&]() -> Status {
    if (ids == nullptr && n > 0) return retort::InvalidArgument("ids: NULL, but n is not 0");
    return retort::host::Detokenize(*object, {ids, n}, flags, text);
  });
}

retort_status retort_model_render_chat(retort_model* model, retort_str messages, uint32_t flags,
                                       const retort_sink* text) {
  if (model == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto object = model->object;
  return RunCall(std::shared_ptr(model->state),
                 [&] { return retort::host::RenderChat(*object, messages, flags, text); });
}

retort_status retort_model_generate(retort_model* model, const retort_generate_args* args) {
  if (model == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = model->state;
  const auto object = model->object;
  return RunStoppableCall(state, [&] { return retort::host::GenerateWith(*state, *object, args); });
}

retort_status retort_model_logprob(retort_model* model, const retort_logprob_args* args) {
  if (model == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = model->state;
  const auto object = model->object;
  return RunStoppableCall(state, [&] { return retort::host::LogprobWith(*state, *object, args); });
}

}  // extern "C"
