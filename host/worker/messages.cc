// SPDX-License-Identifier: Apache-2.0
#include "host/worker/messages.h"

#include <utility>

namespace retort::host {
namespace {

constexpr uint64_t kAbsent = UINT64_MAX;
constexpr uint32_t kHasPromptIds = 1, kHasCompletionIds = 2, kHasLogp = 4;

// A sample without its texts and ids, which follow the table in the order of the members.
struct WireSample {
  uint64_t prompt, completion, record, gold;  // bytes, or kAbsent
  uint32_t n_prompt_ids, n_completion_ids, has, finish;
  uint64_t uid, record_uid;
  uint32_t group, index;
};
static_assert(sizeof(WireSample) == 72);

uint64_t LengthOf(retort_str text) { return text.ptr == nullptr ? kAbsent : text.len; }

void PutBody(retort_str text, FrameWriter& out) {
  if (text.ptr != nullptr) out.Bytes(text.ptr, text.len);
}

retort_str TakeBody(uint64_t length, FrameReader& in) {
  if (length == kAbsent) return {};
  const char* at = in.Bytes(length);
  return at == nullptr ? retort_str{} : retort_str{at, length};
}

template <class T>
void PutArray(const T* data, uint64_t n, FrameWriter& out) {
  out.Uint(data == nullptr ? kAbsent : n);
  if (data != nullptr) out.Bytes(data, n * sizeof(T));
}

// NULL: absent, or not of n elements (then in.ok() is false).
template <class T>
const T* TakeArray(uint64_t n, FrameReader& in) {
  const uint64_t given = in.Uint();
  if (!in.ok() || given == kAbsent) return nullptr;
  if (given != n) return in.Fail(), nullptr;
  const std::span<const T> array = in.Array<T>(n);
  return in.ok() ? array.data() : nullptr;
}

bool Product(uint64_t a, uint64_t b, uint64_t* out) { return !__builtin_mul_overflow(a, b, out); }

}  // namespace

void PutCreate(const CreateRequest& request, FrameWriter& out) {
  for (const std::string* text : {&request.path, &request.sha256, &request.kind, &request.id,
                                  &request.config, &request.host_name, &request.host_version}) {
    out.Text(std::string_view(*text));
  }
  out.Uint(request.key.hi);
  out.Uint(request.key.lo);
}

CreateRequest TakeCreate(FrameReader& in) {
  CreateRequest request;
  for (std::string* text : {&request.path, &request.sha256, &request.kind, &request.id,
                            &request.config, &request.host_name, &request.host_version}) {
    *text = in.Text();
  }
  request.key.hi = in.Uint();
  request.key.lo = in.Uint();
  return request;
}

void PutFacts(const TableFacts& facts, FrameWriter& out) {
  out.Uint(facts.flags);
  out.Uint(facts.preferred_batch);
  out.Uint(facts.has_answers ? 1 : 0);
  out.Uint(facts.n_observe_passes);
  out.Uint(facts.has_state ? 1 : 0);
}

TableFacts TakeFacts(FrameReader& in) {
  TableFacts facts;
  facts.flags = in.Uint32();
  facts.preferred_batch = in.Uint();
  facts.has_answers = in.Uint() != 0;
  facts.n_observe_passes = in.Uint32();
  facts.has_state = in.Uint() != 0;
  return facts;
}

void PutCall(const CallFields& call, FrameWriter& out) {
  out.Int(call.deadline_ns);
  out.Int(call.step);
  out.Uint(call.key.hi);
  out.Uint(call.key.lo);
  out.Int(call.n_threads);
}

CallFields TakeCall(FrameReader& in) {
  CallFields call;
  call.deadline_ns = in.Int();
  call.step = in.Int();
  call.key.hi = in.Uint();
  call.key.lo = in.Uint();
  call.n_threads = in.Int32();
  return call;
}

void PutSamples(const SampleSlice& slice, FrameWriter& out) {
  out.Uint(slice.n);
  const uint32_t first_group = slice.n == 0 ? 0 : slice.at(0).group;
  for (uint64_t i = 0; i < slice.n; ++i) {
    const retort_sample& s = slice.at(i);
    const uint32_t has = (s.prompt_ids != nullptr ? kHasPromptIds : 0) |
                         (s.completion_ids != nullptr ? kHasCompletionIds : 0) |
                         (s.logp != nullptr ? kHasLogp : 0);
    const WireSample wire = {LengthOf(s.prompt),
                             LengthOf(s.completion),
                             LengthOf(s.record),
                             LengthOf(s.gold),
                             s.n_prompt_ids,
                             s.n_completion_ids,
                             has,
                             s.finish,
                             s.uid,
                             s.record_uid,
                             s.group - first_group,
                             s.index};
    out.Raw(&wire, sizeof wire);
  }
  for (uint64_t i = 0; i < slice.n; ++i) {
    const retort_sample& s = slice.at(i);
    for (const retort_str text : {s.prompt, s.completion, s.record, s.gold}) PutBody(text, out);
    if (s.prompt_ids != nullptr) out.Bytes(s.prompt_ids, s.n_prompt_ids * sizeof(int32_t));
    if (s.completion_ids != nullptr) {
      out.Bytes(s.completion_ids, s.n_completion_ids * sizeof(int32_t));
    }
    if (s.logp != nullptr) out.Bytes(s.logp, s.n_completion_ids * sizeof(float));
  }
}

std::vector<retort_sample> TakeSamples(FrameReader& in) {
  const std::span<const WireSample> table = in.Array<WireSample>(in.Count(sizeof(WireSample)));
  std::vector<retort_sample> samples(table.size());
  for (size_t i = 0; i < table.size() && in.ok(); ++i) {
    const WireSample& wire = table[i];
    retort_sample& s = samples[i];
    s.prompt = TakeBody(wire.prompt, in);
    s.completion = TakeBody(wire.completion, in);
    s.record = TakeBody(wire.record, in);
    s.gold = TakeBody(wire.gold, in);
    if ((wire.has & kHasPromptIds) != 0) {
      s.prompt_ids = in.Array<int32_t>(wire.n_prompt_ids).data();
    }
    if ((wire.has & kHasCompletionIds) != 0) {
      s.completion_ids = in.Array<int32_t>(wire.n_completion_ids).data();
    }
    if ((wire.has & kHasLogp) != 0) s.logp = in.Array<float>(wire.n_completion_ids).data();
    s.n_prompt_ids = wire.n_prompt_ids;
    s.n_completion_ids = wire.n_completion_ids;
    s.uid = wire.uid;
    s.record_uid = wire.record_uid;
    s.group = wire.group;
    s.index = wire.index;
    s.finish = wire.finish;
  }
  if (!in.ok()) samples.clear();
  return samples;
}

const retort_group& GroupAt(const retort_filter_args& args, uint64_t i) {
  const char* base = reinterpret_cast<const char*>(args.groups);
  return *reinterpret_cast<const retort_group*>(base + i * args.group_stride);
}

GroupRange SamplesOf(const retort_filter_args& args, GroupRange groups) {
  if (groups.n == 0) return {};
  const uint64_t first = GroupAt(args, groups.first).first;
  const retort_group& last = GroupAt(args, groups.first + groups.n - 1);
  return {first, last.first + last.n - first};
}

void PutFilterArgs(const retort_filter_args& args, GroupRange groups, FrameWriter& out) {
  const GroupRange range = SamplesOf(args, groups);
  out.Uint(args.pass);
  PutSamples({args.samples, args.sample_stride, range.first, range.n}, out);
  out.Uint(groups.n);
  for (uint64_t i = 0; i < groups.n; ++i) {
    const retort_group& group = GroupAt(args, groups.first + i);
    const retort_group moved = {group.first - range.first, group.n, group.record_uid};
    out.Raw(&moved, sizeof moved);
  }
  out.Uint(args.n_rewards);
  for (uint64_t r = 0; r < args.n_rewards; ++r) out.Text(std::string_view(args.reward_names[r]));
  const uint64_t cell = range.first * args.n_rewards, n_cells = range.n * args.n_rewards;
  const auto from = [](auto* data, uint64_t at) { return data == nullptr ? nullptr : data + at; };
  PutArray(args.reward_weights, args.n_rewards, out);
  PutArray(from(args.scores, cell), n_cells, out);
  PutArray(from(args.score_status, cell), n_cells, out);
  PutArray(from(args.first_equal, range.first), range.n, out);
  out.Uint(args.info == nullptr ? 0 : 1);
  for (uint64_t i = 0; args.info != nullptr && i < n_cells; ++i) out.Text(args.info[cell + i]);
}

void TakeFilterArgs(FrameReader& in, FilterArgs* out) {
  retort_filter_args& args = out->args;
  args = {};
  args.struct_size = sizeof args;
  args.sample_stride = sizeof(retort_sample);
  args.group_stride = sizeof(retort_group);
  args.pass = in.Uint32();
  out->samples = TakeSamples(in);
  const std::span<const retort_group> groups =
      in.Array<retort_group>(in.Count(sizeof(retort_group)));
  for (const retort_group& group : groups) {
    if (group.first > out->samples.size() || group.n > out->samples.size() - group.first) {
      return in.Fail();
    }
  }
  out->groups.assign(groups.begin(), groups.end());
  const uint64_t n_rewards = in.Count(sizeof(uint64_t));
  out->names.clear();
  out->name_ptrs.clear();
  for (uint64_t r = 0; r < n_rewards; ++r) out->names.emplace_back(in.Text());
  for (const std::string& name : out->names) out->name_ptrs.push_back(name.c_str());
  uint64_t n_cells = 0;
  if (!in.ok() || !Product(out->samples.size(), n_rewards, &n_cells)) return in.Fail();
  args.reward_weights = TakeArray<double>(n_rewards, in);
  args.scores = TakeArray<double>(n_cells, in);
  args.score_status = TakeArray<uint8_t>(n_cells, in);
  args.first_equal = TakeArray<int64_t>(out->samples.size(), in);
  out->info.clear();
  const bool has_info = in.Uint() != 0;
  for (uint64_t i = 0; has_info && i < n_cells && in.ok(); ++i) out->info.push_back(in.Str());
  args.samples = out->samples.data();
  args.n_samples = out->samples.size();
  args.groups = out->groups.data();
  args.n_groups = out->groups.size();
  args.reward_names = n_rewards == 0 ? nullptr : out->name_ptrs.data();
  args.n_rewards = n_rewards;
  args.info = has_info ? out->info.data() : nullptr;
}

void PutRequests(const retort_request* requests, uint64_t stride, uint64_t n, FrameWriter& out) {
  out.Uint(n);
  const char* base = reinterpret_cast<const char*>(requests);
  for (uint64_t i = 0; i < n; ++i) {
    const auto& request = *reinterpret_cast<const retort_request*>(base + i * stride);
    out.Uint(request.uid);
    out.Text(request.messages_json);
    out.Text(request.params_json);
    out.Uint(request.n_samples);
    out.Uint(request.n_ids);
    PutArray(request.ids, request.n_ids, out);
  }
}

std::vector<retort_request> TakeRequests(FrameReader& in) {
  const uint64_t n = in.Count(6 * sizeof(uint64_t));
  std::vector<retort_request> requests(n);
  for (retort_request& request : requests) {
    request.uid = in.Uint();
    request.messages_json = in.Str();
    request.params_json = in.Str();
    request.n_samples = in.Uint32();
    request.n_ids = in.Uint32();
    request.ids = TakeArray<int32_t>(request.n_ids, in);
  }
  if (!in.ok()) requests.clear();
  return requests;
}

void PutInfo(uint64_t index, retort_str json, FrameWriter& out) {
  out.Uint(static_cast<uint64_t>(ItemKind::kInfo));
  out.Uint(index);
  out.Text(json);
}

void PutMetric(std::string_view name, double sum, double count, FrameWriter& out) {
  out.Uint(static_cast<uint64_t>(ItemKind::kMetric));
  out.Text(name);
  out.Double(sum);
  out.Double(count);
}

void PutDecision(uint64_t sample, const retort_decision& decision, FrameWriter& out) {
  out.Uint(static_cast<uint64_t>(ItemKind::kDecision));
  out.Uint(sample);
  out.Uint(decision.flags);
  out.Uint(decision.action);
  out.Uint(decision.reason_code);
  out.Double(decision.quality);
  for (const retort_str text : {decision.reason, decision.completion, decision.record}) {
    out.Text(text);
  }
}

void PutRecord(const retort_record& record, FrameWriter& out) {
  out.Uint(static_cast<uint64_t>(ItemKind::kRecord));
  out.Int(record.status);
  out.Uint(record.uid);
  out.Text(record.json);
  out.Text(record.origin);
}

void PutEvent(const retort_event& event, FrameWriter& out) {
  out.Uint(static_cast<uint64_t>(ItemKind::kEvent));
  for (const uint64_t value : {uint64_t{event.kind}, event.uid, uint64_t{event.sample},
                               uint64_t{event.finish}, event.n_ids, uint64_t{event.top_k}}) {
    out.Uint(value);
  }
  out.Int(event.status);
  out.Int(event.retry_after_ns);
  out.Text(event.text);
  out.Text(event.info);
  uint64_t n_top = 0;
  if (!Product(event.n_ids, event.top_k, &n_top)) n_top = 0;
  PutArray(event.ids, event.n_ids, out);
  PutArray(event.logp, event.n_ids, out);
  PutArray(event.top_ids, n_top, out);
  PutArray(event.top_logp, n_top, out);
}

static retort_event TakeEvent(FrameReader& in) {
  retort_event event{};
  event.struct_size = sizeof event;
  event.kind = in.Uint32();
  event.uid = in.Uint();
  event.sample = in.Uint32();
  event.finish = in.Uint32();
  event.n_ids = in.Uint();
  event.top_k = in.Uint32();
  event.status = in.Int32();
  event.retry_after_ns = in.Int();
  event.text = in.Str();
  event.info = in.Str();
  uint64_t n_top = 0;
  if (!Product(event.n_ids, event.top_k, &n_top)) in.Fail();
  event.ids = TakeArray<int32_t>(event.n_ids, in);
  event.logp = TakeArray<float>(event.n_ids, in);
  event.top_ids = TakeArray<int32_t>(n_top, in);
  event.top_logp = TakeArray<float>(n_top, in);
  return event;
}

static retort_decision TakeDecision(FrameReader& in) {
  retort_decision decision{};
  decision.struct_size = sizeof decision;
  decision.flags = in.Uint32();
  decision.action = in.Uint32();
  decision.reason_code = in.Uint32();
  decision.quality = in.Double();
  for (retort_str* text : {&decision.reason, &decision.completion, &decision.record}) {
    *text = in.Str();
  }
  return decision;
}

Item TakeItem(FrameReader& in) {
  Item item;
  item.kind = static_cast<ItemKind>(in.Uint());
  switch (item.kind) {
    case ItemKind::kInfo:
      item.index = in.Uint();
      item.text = in.Str();
      return item;
    case ItemKind::kMetric:
      item.text = in.Str();
      item.sum = in.Double();
      item.count = in.Double();
      return item;
    case ItemKind::kDecision:
      item.index = in.Uint();
      item.decision = TakeDecision(in);
      return item;
    case ItemKind::kRecord:
      item.record.struct_size = sizeof(retort_record);
      item.record.status = in.Int32();
      item.record.uid = in.Uint();
      item.record.json = in.Str();
      item.record.origin = in.Str();
      return item;
    case ItemKind::kEvent: item.event = TakeEvent(in); return item;
  }
  in.Fail();
  return item;
}

}  // namespace retort::host
