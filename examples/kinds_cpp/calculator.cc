// A generator: answers problems of addition, at once. One that asks a server would keep its
// requests in flight between Submit and Poll, in threads or sockets of its own.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <deque>
#include <string>

#include "retort/sdk/generator.h"

namespace {

// [generator.begin]
using retort::sdk::Call;
using retort::sdk::Events;
using retort::sdk::Failure;
using retort::sdk::Request;

class Calculator {
 public:
  explicit Calculator(const retort::sdk::Config& config) : host_(config.host()) {}

  // Takes a request: what it needs later is copied. False would mean: no room, ask again after
  // Poll. What is thrown here becomes the request's ERROR event.
  bool Submit(const Call&, const Request& request) {
    const auto messages = host_.Parse(request.messages_json());
    const auto last = messages->root().at(messages->root().size() - 1);
    long long a = 0, b = 0;
    const std::string text(last.String("content"));
    if (std::sscanf(text.c_str(), "What is %9lld + %9lld?", &a, &b) != 2) {
      throw Failure(RETORT_INVALID_ARGUMENT, "can only answer \"What is A + B?\"");
    }
    open_.push_back({request.uid(), request.n_samples(), std::to_string(a + b)});
    return true;
  }

  // Reports what is ready. With nothing ready it would wait, at most until call.deadline_ns().
  void Poll(const Call& call, const Events& events) {
    while (!open_.empty()) {
      call.ThrowIfCancelled();
      const Open open = open_.front();
      open_.pop_front();
      for (uint32_t s = 0; s < open.n_samples; ++s) events.Done(open.uid, s, {.text = open.answer});
    }
  }

  void Cancel(uint64_t uid) {
    std::erase_if(open_, [uid](const Open& open) { return open.uid == uid; });
  }

 private:
  struct Open {
    uint64_t uid;
    uint32_t n_samples;
    std::string answer;
  };
  retort::sdk::Host host_;
  std::deque<Open> open_;
};

RETORT_GENERATOR("calculator", Calculator, "answers problems of addition",
                 R"({"type": "object", "properties": {}})");
// [generator.end]

}  // namespace
