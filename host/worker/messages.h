// What the frames say: the ABI's argument structs as fields, and back. Decoded structs borrow the
// frame's bytes. Nothing here trusts what it reads (frame.h).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/worker/frame.h"
#include "retort/abi/call.h"
#include "retort/abi/draft/generator.h"
#include "retort/abi/draft/source.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

namespace retort::host {

// What a worker is asked to make.
struct CreateRequest {
  std::string path, sha256;  // of the library; "": not compared
  std::string kind, id, config;
  std::string host_name, host_version;  // "": retort's own
  retort_key key{};
};
void PutCreate(const CreateRequest& request, FrameWriter& out);
CreateRequest TakeCreate(FrameReader& in);

// The tables of what was made, as far as the host must know them.
struct TableFacts {
  uint32_t flags = 0;
  uint64_t preferred_batch = 0;   // reward
  bool has_answers = false;       // reward
  uint32_t n_observe_passes = 0;  // filter
  bool has_state = false;         // filter, source: save and merge (load)
  friend bool operator==(const TableFacts&, const TableFacts&) = default;
};
void PutFacts(const TableFacts& facts, FrameWriter& out);
TableFacts TakeFacts(FrameReader& in);

// The members of retort_call that travel. cancel is the shared page, the rest is the worker's.
struct CallFields {
  int64_t deadline_ns = 0, step = -1;
  retort_key key{};
  int32_t n_threads = 1;
};
void PutCall(const CallFields& call, FrameWriter& out);
CallFields TakeCall(FrameReader& in);

// Samples [first, first + n) of an array; their groups are numbered from 0.
struct SampleSlice {
  const retort_sample* samples = nullptr;
  uint64_t stride = sizeof(retort_sample), first = 0, n = 0;
  const retort_sample& at(uint64_t i) const {
    const char* base = reinterpret_cast<const char*>(samples);
    return *reinterpret_cast<const retort_sample*>(base + (first + i) * stride);
  }
};
void PutSamples(const SampleSlice& slice, FrameWriter& out);
std::vector<retort_sample> TakeSamples(FrameReader& in);

// Groups [first, first + n) of a filter's arguments with their samples.
struct GroupRange {
  uint64_t first = 0, n = 0;
};
const retort_group& GroupAt(const retort_filter_args& args, uint64_t i);
// The samples of those groups, which are adjacent.
GroupRange SamplesOf(const retort_filter_args& args, GroupRange groups);
void PutFilterArgs(const retort_filter_args& args, GroupRange groups, FrameWriter& out);
struct FilterArgs {  // owns what `args` points to, but the frame's bytes
  std::vector<retort_sample> samples;
  std::vector<retort_group> groups;
  std::vector<std::string> names;
  std::vector<const char*> name_ptrs;
  std::vector<retort_str> info;
  retort_filter_args args{};
};
void TakeFilterArgs(FrameReader& in, FilterArgs* out);

void PutRequests(const retort_request* requests, uint64_t stride, uint64_t n, FrameWriter& out);
std::vector<retort_request> TakeRequests(FrameReader& in);

// What a plugin reported by callbacks while it was called, in order.
enum class ItemKind : uint64_t { kInfo = 1, kMetric, kDecision, kRecord, kEvent };
struct Item {
  ItemKind kind{};
  uint64_t index = 0;  // kInfo, kDecision: of the sample
  retort_str text{};   // kInfo: JSON; kMetric: name
  double sum = 0, count = 0;
  retort_decision decision{};
  retort_record record{};
  retort_event event{};
};
void PutInfo(uint64_t index, retort_str json, FrameWriter& out);
void PutMetric(std::string_view name, double sum, double count, FrameWriter& out);
void PutDecision(uint64_t sample, const retort_decision& decision, FrameWriter& out);
void PutRecord(const retort_record& record, FrameWriter& out);
void PutEvent(const retort_event& event, FrameWriter& out);
// Sets in.ok() to false on an unknown kind, too.
Item TakeItem(FrameReader& in);
inline constexpr uint64_t kMinItemBytes = 16;

}  // namespace retort::host
