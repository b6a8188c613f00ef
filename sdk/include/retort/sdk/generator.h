// Generators in C++: a class with
//   bool Submit(const Call&, const Request&)    takes it (and copies what it needs); false: full
//   void Poll(const Call&, const Events&)       waits for news, at most until call.deadline_ns(),
//                                               and reports them
//   void Cancel(uint64_t uid)                   no more events of it
// then one line: RETORT_GENERATOR("my_generator", MyGenerator, "one line for people", kSchema);
// A Failure that Submit throws becomes the ERROR event of that request.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_GENERATOR_H_
#define RETORT_SDK_GENERATOR_H_

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "retort/abi/draft/generator.h"
#include "retort/abi/reward.h"
#include "retort/sdk/plugin.h"

namespace retort::sdk {

// A borrowed request; see retort_request.
class Request {
 public:
  explicit Request(const retort_request& raw) : raw_(&raw) {}
  const retort_request& raw() const { return *raw_; }
  uint64_t uid() const { return raw_->uid; }
  std::string_view messages_json() const { return ToView(raw_->messages_json); }
  std::string_view params_json() const { return ToView(raw_->params_json); }
  std::span<const int32_t> ids() const { return {raw_->ids, raw_->n_ids}; }
  uint32_t n_samples() const { return raw_->n_samples; }

 private:
  const retort_request* raw_;
};

// One finished sample. logp: as many as ids, or none.
struct Completion {
  std::string_view text;
  uint32_t finish = RETORT_FINISH_STOP;
  std::string_view info = {};  // JSON object; empty: none
  std::span<const int32_t> ids = {};
  std::span<const float> logp = {};
};

// Where Poll reports; valid until it returns.
class Events {
 public:
  Events(void* ctx, void (*on)(void*, const retort_event*)) : ctx_(ctx), on_(on) {}

  void Done(uint64_t uid, uint32_t sample, const Completion& c) const {
    retort_event event = Start(RETORT_EVENT_DONE, uid, sample, c.text);
    event.finish = c.finish;
    if (!c.info.empty()) event.info = ToStr(c.info);
    if (!c.ids.empty()) event.ids = c.ids.data();
    if (!c.ids.empty() && !c.logp.empty()) event.logp = c.logp.data();
    event.n_ids = c.ids.size();
    on_(ctx_, &event);
  }
  void Delta(uint64_t uid, uint32_t sample, std::string_view new_text) const {
    const retort_event event = Start(RETORT_EVENT_DELTA, uid, sample, new_text);
    on_(ctx_, &event);
  }
  void Error(uint64_t uid, retort_status status, std::string_view why,
             int64_t retry_after_ns = 0) const {
    retort_event event = Start(RETORT_EVENT_ERROR, uid, 0, why);
    event.status = status;
    event.retry_after_ns = retry_after_ns;
    on_(ctx_, &event);
  }

 private:
  static retort_event Start(uint32_t kind, uint64_t uid, uint32_t sample, std::string_view text) {
    retort_event event{};
    event.struct_size = sizeof(event);
    event.kind = kind;
    event.uid = uid;
    event.sample = sample;
    event.text = ToStr(text);
    return event;
  }
  void* ctx_;
  void (*on_)(void*, const retort_event*);
};

namespace internal {

template <class T>
class GeneratorInstance final : public Instance {
 public:
  explicit GeneratorInstance(const Config& config) : generator_(config) {}
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_GENERATOR_INTERFACE ? &table_ : nullptr;
  }

 private:
  struct Refused {
    uint64_t uid;
    retort_status status;
    std::string why;
  };
  static GeneratorInstance& Of(retort_instance* p) {
    return static_cast<GeneratorInstance&>(Instance::Of(p));
  }
  // True: taken, be it to be refused by an event.
  bool Take(const Call& call, const Request& request) {
    bool taken = true;
    const auto failure = FailureOf([&] { taken = generator_.Submit(call, request); });
    if (!failure) return taken;
    const retort_status code = failure->code();
    if (code == RETORT_CANCELLED || code == RETORT_RESOURCE_EXHAUSTED) throw *failure;
    refused_.push_back(
        {request.uid(), code == RETORT_OK ? RETORT_INTERNAL : code, failure->what()});
    return true;
  }
  // On failure nothing counts as taken, so what was taken before is cancelled.
  static retort_status Submit(retort_instance* p, const retort_call* raw,
                              const retort_request* requests, uint64_t stride, uint64_t n,
                              uint64_t* n_taken) noexcept {
    const auto at = [&](uint64_t i) {
      return Request(*reinterpret_cast<const retort_request*>(
          reinterpret_cast<const char*>(requests) + i * stride));
    };
    uint64_t taken = 0;
    const retort_status status = Guard(raw, [&] {
      const Call call(raw);
      while (taken < n && Of(p).Take(call, at(taken))) ++taken;
    });
    for (uint64_t i = 0; status != RETORT_OK && i < taken; ++i) Cancel(p, raw, at(i).uid());
    *n_taken = status == RETORT_OK ? taken : 0;
    return status;
  }
  static retort_status Poll(retort_instance* p, const retort_call* raw, void* ctx,
                            void (*on)(void*, const retort_event*)) noexcept {
    return Guard(raw, [&] {
      GeneratorInstance& self = Of(p);
      const Events events(ctx, on);
      if (self.refused_.empty()) return self.generator_.Poll(Call(raw), events);
      for (const Refused& r : self.refused_) events.Error(r.uid, r.status, r.why);
      self.refused_.clear();
    });
  }
  static retort_status Cancel(retort_instance* p, const retort_call* raw, uint64_t uid) noexcept {
    return Guard(raw, [&] {
      std::erase_if(Of(p).refused_, [uid](const Refused& r) { return r.uid == uid; });
      Of(p).generator_.Cancel(uid);
    });
  }

  T generator_;
  std::vector<Refused> refused_;
  retort_generator_v1 table_ = {sizeof(retort_generator_v1), 0, Submit, Poll, Cancel};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_GENERATOR(ID, CLASS, SUMMARY, SCHEMA) \
  RETORT_SDK_REGISTER(RETORT_KIND_GENERATOR, ID,     \
                      ::retort::sdk::internal::GeneratorInstance<CLASS>, SUMMARY, SCHEMA)

#endif  // RETORT_SDK_GENERATOR_H_
