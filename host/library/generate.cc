// Generation and log-probabilities of a model handle: structs in, callbacks out.
// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/hash.h"
#include "core/data/record.h"
#include "core/data/sample.h"
#include "core/io/jsonl.h"
#include "core/json/json.h"
#include "host/commands/command.h"
#include "host/commands/generate.h"
#include "host/commands/lines.h"
#include "host/commands/logprob.h"
#include "host/library/edge.h"
#include "host/library/model.h"

namespace retort::host {
namespace {

Result<json::Document> ParseMember(retort_str text, const std::string& where) {
  json::ParseOptions limits;
  limits.max_bytes = io::kMaxLineBytes;
  return json::Document::Parse(ToView(text), where, limits);
}

// A prompt as the record that a line of `retort generate` would be.
Result<data::Record> RecordOf(const retort_generate_prompt& prompt, const std::string& where) {
  const bool messages = prompt.messages.ptr != nullptr;
  if (messages == (prompt.prompt.ptr != nullptr)) {
    return InvalidArgument(where + ": give either prompt or messages");
  }
  json::Writer line;
  line.BeginObject();
  if (messages) {
    RETORT_ASSIGN_OR_RETURN(const json::Document list,
                            ParseMember(prompt.messages, where + ".messages"));
    line.Key("messages").Copy(list.root());
  } else {
    RETORT_RETURN_IF_ERROR(CheckUtf8(ToView(prompt.prompt), where + ".prompt"));
    line.Field("prompt", ToView(prompt.prompt));
  }
  if (prompt.record.ptr != nullptr) {
    RETORT_ASSIGN_OR_RETURN(const json::Document record,
                            ParseMember(prompt.record, where + ".record"));
    if (!record.root().is_object()) {
      return InvalidArgument(where + ".record: must be a JSON object");
    }
    CopyFields(record.root(), {"messages", "prompt", "completion", "uid"}, line);
  }
  data::RecordOptions options;
  options.format = messages ? "messages" : "prompt";
  RETORT_ASSIGN_OR_RETURN(data::Record record,
                          data::ParseRecord(line.EndObject().text(), where, options));
  if (prompt.uid != 0) record.uid = prompt.uid;
  return record;
}

// Prompts as given, with uids that tell them apart.
class Prompts {
 public:
  static Result<Prompts> Read(const retort_generate_args& args, const GenerateSettings& settings) {
    Prompts out;
    std::set<uint64_t> uids;
    for (uint64_t i = 0; i < args.n_prompts; ++i) {
      const std::string where = "prompts[" + std::to_string(i) + "]";
      const retort_generate_prompt& given = At(args.prompts, args.prompt_stride, i);
      RETORT_ASSIGN_OR_RETURN(data::Record record, RecordOf(given, where));
      while (!uids.insert(record.uid).second) {
        if (given.uid != 0) {
          return InvalidArgument(where + ": an earlier prompt has uid " +
                                 std::to_string(given.uid) + " too; uids name prompts");
        }
        record.uid = XxHash64(Hex64(record.uid), i);
      }
      RETORT_ASSIGN_OR_RETURN(GeneratePrompt prompt, MakePrompt(record, settings));
      out.place_[record.uid] = i;
      out.prompts_.push_back(std::move(prompt));
    }
    return out;
  }
  std::vector<engine::GenerateRequest> Requests() const {
    std::vector<engine::GenerateRequest> requests;
    for (const GeneratePrompt& prompt : prompts_) requests.push_back(prompt.request);
    return requests;
  }
  uint64_t IndexOf(uint64_t uid) const { return place_.at(uid); }
  const GeneratePrompt& Of(uint64_t uid) const { return prompts_[IndexOf(uid)]; }

 private:
  std::vector<GeneratePrompt> prompts_;
  std::map<uint64_t, uint64_t> place_;
};

// The caller's callbacks; once one asks to stop, none is made any more.
class Listener {
 public:
  Listener(const retort_generate_args& args, const Prompts& prompts, engine::Cancel& cancel)
      : args_(args), prompts_(prompts), cancel_(cancel) {}

  bool stopped() const { return stopped_; }
  bool cut_short() const { return cut_short_; }  // by retort_cancel

  void Delta(uint64_t uid, int32_t sample, std::string_view text) {
    if (stopped_) return;
    retort_generate_delta delta{};
    delta.struct_size = sizeof delta;
    delta.sample = static_cast<uint32_t>(sample);
    delta.prompt = prompts_.IndexOf(uid);
    delta.text = ToStr(text);
    Note(args_.delta(args_.ctx, &delta));
  }

  void Done(const engine::Completion& completion) {
    cut_short_ = cut_short_ || completion.finish == engine::Finish::kCancelled;
    if (stopped_ || args_.done == nullptr) return;
    const data::Sample sample = SampleOf(prompts_.Of(completion.uid), completion);
    const std::string json = data::SampleToJson(sample);
    retort_generate_done done{};
    done.struct_size = sizeof done;
    done.sample = static_cast<uint32_t>(completion.index);
    done.prompt = prompts_.IndexOf(completion.uid);
    done.uid = sample.uid;
    done.text = ToStr(completion.text);
    done.finish = static_cast<uint32_t>(completion.finish);
    done.n_prefix = static_cast<uint32_t>(sample.n_prefix);
    done.ids = completion.ids.data();
    done.logp = completion.logp.data();
    done.n_ids = completion.ids.size();
    done.error = OptionalStr(completion.error);
    done.json = ToStr(json);
    Note(args_.done(args_.ctx, &done));
  }

 private:
  void Note(int32_t wish) {
    if (wish == 0) return;
    stopped_ = true;
    cancel_.store(1);
  }

  const retort_generate_args& args_;
  const Prompts& prompts_;
  engine::Cancel& cancel_;
  bool stopped_ = false, cut_short_ = false;
};

Result<GenerateSettings> SettingsOf(const retort_generate_args& args, const ModelObject& model) {
  const std::string_view text = args.options.ptr == nullptr ? "{}" : ToView(args.options);
  RETORT_ASSIGN_OR_RETURN(const json::Document options, json::Document::Parse(text, "options"));
  RETORT_RETURN_IF_ERROR(CheckArgs("generate", SamplingArgs(), options.root()));
  return ReadGenerateSettings(Args(options.root()), *model.opened);
}

// What an item counts.
Result<LogprobIds> CountedIds(const text::Tokenizer* tokenizer, const retort_logprob_item& item,
                              const std::string& where) {
  const bool pair = item.prompt.ptr != nullptr && item.completion.ptr != nullptr;
  const bool half = (item.prompt.ptr != nullptr) != (item.completion.ptr != nullptr);
  const int kinds = (item.text.ptr != nullptr) + pair + (item.ids != nullptr);
  if (half || kinds != 1) {
    return InvalidArgument(where + ": give one of text, ids, or prompt with completion");
  }
  for (const retort_str text : {item.text, item.prompt, item.completion}) {
    RETORT_RETURN_IF_ERROR(CheckUtf8(ToView(text), where));
  }
  if (item.text.ptr != nullptr) return EncodeText(tokenizer, ToView(item.text), where);
  if (pair) return EncodePair(tokenizer, ToView(item.prompt), ToView(item.completion), where);
  LogprobIds counted;
  counted.ids.assign(item.ids, item.ids + item.n_ids);
  if (item.first > item.n_ids) {
    return InvalidArgument(where + ".first: " + std::to_string(item.first) + ", but there are " +
                           std::to_string(item.n_ids) + " ids");
  }
  counted.first = item.first == 0 ? 1 : static_cast<int64_t>(item.first);
  return counted;
}

Status TellLogprobs(const retort_logprob_args& args, uint64_t first,
                    std::span<const LogprobIds> items,
                    const std::vector<std::vector<float>>& logp) {
  for (size_t i = 0; i < items.size(); ++i) {
    retort_logprob_result result{};
    result.struct_size = sizeof result;
    result.item = first + i;
    result.ids = items[i].ids.data();
    result.n_ids = items[i].ids.size();
    result.logp = logp[i].data();
    result.n_logp = logp[i].size();
    for (const float value : logp[i]) result.sum += static_cast<double>(value);
    if (args.result(args.ctx, &result) != 0) return Cancelled("stopped by the result callback");
  }
  return OkStatus();
}

}  // namespace

Status GenerateWith(ContextState& state, ModelObject& model, const retort_generate_args* args) {
  retort_generate_args known{};
  RETORT_RETURN_IF_ERROR(ReadStruct(args, "retort_generate_args", known));
  RETORT_RETURN_IF_ERROR(CheckFlags(known.flags, 0, "retort_generate_args"));
  RETORT_RETURN_IF_ERROR(CheckArray(known.prompts, known.n_prompts, known.prompt_stride,
                                    sizeof(retort_generate_prompt), "prompts"));
  RETORT_ASSIGN_OR_RETURN(const GenerateSettings settings, SettingsOf(known, model));
  RETORT_ASSIGN_OR_RETURN(const Prompts prompts, Prompts::Read(known, settings));
  if (known.n_prompts == 0) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(engine::Model* const weights, WeightsOf(state, model));
  Listener listener(known, prompts, state.cancel);
  engine::GenerateOptions options = EngineOptionsOf(settings);
  options.cancel = &state.cancel;
  options.on_done = [&listener](const engine::Completion& done) { listener.Done(done); };
  if (known.delta != nullptr) {
    options.on_text = [&listener](uint64_t uid, int32_t sample, std::string_view text) {
      listener.Delta(uid, sample, text);
    };
  }
  const Result<engine::GenerateStats> stats = weights->Generate(prompts.Requests(), options);
  if (listener.stopped()) return Cancelled("generation was stopped by a callback");
  if (!stats.ok()) return stats.status();
  return listener.cut_short() ? Cancelled("generation was stopped") : OkStatus();
}

Status LogprobWith(ContextState& state, ModelObject& model, const retort_logprob_args* args) {
  retort_logprob_args known{};
  RETORT_RETURN_IF_ERROR(ReadStruct(args, "retort_logprob_args", known));
  RETORT_RETURN_IF_ERROR(CheckFlags(known.flags, 0, "retort_logprob_args"));
  RETORT_RETURN_IF_ERROR(CheckArray(known.items, known.n_items, known.item_stride,
                                    sizeof(retort_logprob_item), "items"));
  if (known.result == nullptr)
    return InvalidArgument("result: NULL; it gets the log-probabilities");
  if (known.max_tokens < 0) return InvalidArgument("max_tokens: must be 0 or more");
  RETORT_ASSIGN_OR_RETURN(engine::Model* const weights, WeightsOf(state, model));
  const int64_t vocab = weights->graph().vocab();
  std::vector<LogprobIds> items;
  size_t tokens = 0;
  for (uint64_t i = 0; i < known.n_items; ++i) {
    const std::string where = "items[" + std::to_string(i) + "]";
    const retort_logprob_item& given = At(known.items, known.item_stride, i);
    RETORT_ASSIGN_OR_RETURN(LogprobIds counted,
                            CountedIds(model.opened->tokenizer.get(), given, where));
    RETORT_RETURN_IF_ERROR(CheckVocabulary(counted.ids, vocab, where));
    tokens += counted.ids.size();
    items.push_back(std::move(counted));
    if (tokens < kLogprobChunkTokens && i + 1 < known.n_items) continue;
    if (state.cancel.load() != 0) return Cancelled("stopped while scoring texts");
    RETORT_ASSIGN_OR_RETURN(
        const std::vector<std::vector<float>> logp,
        Logprobs(*weights, items, known.max_tokens, &state.cancel, model.opened->adapter_index()));
    RETORT_RETURN_IF_ERROR(TellLogprobs(known, i + 1 - items.size(), items, logp));
    items.clear();
    tokens = 0;
  }
  return OkStatus();
}

}  // namespace retort::host
