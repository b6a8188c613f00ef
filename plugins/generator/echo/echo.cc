// Answers every prompt from a template, at once and always the same way: for tests, and as the
// pattern of a generator. A word is a run of characters that are not white space; max_tokens counts
// words. SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "retort/sdk/generator.h"

namespace {

using retort::sdk::Call;
using retort::sdk::Completion;
using retort::sdk::Config;
using retort::sdk::Events;
using retort::sdk::Failure;
using retort::sdk::Host;
using retort::sdk::JsonValue;
using retort::sdk::Request;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "template": {"type": "string", "default": "{prompt}",
                 "description": "the answer; {prompt}: the last user message, {sample}: from 0"},
    "chunk_bytes": {"type": "integer", "minimum": 0, "default": 0,
                    "description": "size of the parts that come before the whole; 0: none"},
    "max_queue": {"type": "integer", "minimum": 1, "default": 64,
                  "description": "requests that are taken before poll must be called"},
    "fail_on": {"type": "string", "default": "",
                "description": "a prompt with this text in it fails (UNAVAILABLE); empty: none"},
    "fail_times": {"type": "integer", "minimum": 0, "default": 0,
                   "description": "how often such a request fails before it is answered; 0: always"}
  }
})";

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// Where the first n words of text end; npos: it has no more than these.
size_t EndOfWords(std::string_view text, int64_t n) {
  size_t i = 0;
  for (int64_t word = 0; word < n; ++word) {
    while (i < text.size() && IsSpace(text[i])) ++i;
    while (i < text.size() && !IsSpace(text[i])) ++i;
  }
  const bool has_more = std::any_of(text.begin() + static_cast<std::ptrdiff_t>(i), text.end(),
                                    [](char c) { return !IsSpace(c); });
  return has_more ? i : std::string_view::npos;
}

void ReplaceAll(std::string* text, std::string_view what, std::string_view with) {
  for (size_t at = 0; (at = text->find(what, at)) != std::string::npos; at += with.size()) {
    text->replace(at, what.size(), with);
  }
}

// Where a part of about `size` bytes from `begin` ends, between two characters.
size_t EndOfPart(std::string_view text, size_t begin, size_t size) {
  size_t end = std::min(text.size(), begin + size);
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  return end;
}

struct Answer {
  std::string text;
  uint32_t finish = RETORT_FINISH_STOP;
};

struct Open {
  uint64_t uid = 0;
  std::vector<Answer> answers;  // one per sample
  bool fails = false;
};

class Echo {
 public:
  explicit Echo(const Config& config)
      : host_(config.host()),
        template_(config.String("template")),
        fail_on_(config.String("fail_on")),
        chunk_bytes_(static_cast<size_t>(config.Int("chunk_bytes"))),
        max_queue_(static_cast<size_t>(config.Int("max_queue"))),
        fail_times_(config.Int("fail_times")) {}

  bool Submit(const Call&, const Request& request) {
    if (open_.size() >= max_queue_) return false;
    const std::string prompt = LastUserMessage(request);
    Open open{.uid = request.uid(), .answers = {}, .fails = Fails(request.uid(), prompt)};
    const auto params = host_.Parse(request.params_json().empty() ? "{}" : request.params_json());
    for (uint32_t s = 0; s < request.n_samples(); ++s) {
      open.answers.push_back(MakeAnswer(prompt, s, params->root()));
    }
    open_.push_back(std::move(open));
    return true;
  }

  void Poll(const Call& call, const Events& events) {
    while (!open_.empty()) {
      call.ThrowIfCancelled();
      const Open open = std::move(open_.front());
      open_.pop_front();
      if (open.fails) {
        events.Error(open.uid, RETORT_UNAVAILABLE, "the prompt has \"" + fail_on_ + "\" in it");
        continue;
      }
      for (uint32_t s = 0; s < open.answers.size(); ++s) Report(open, s, events);
    }
  }

  void Cancel(uint64_t uid) {
    std::erase_if(open_, [uid](const Open& open) { return open.uid == uid; });
  }

 private:
  std::string LastUserMessage(const Request& request) const {
    const auto messages = host_.Parse(request.messages_json());
    const JsonValue list = messages->root();
    for (size_t i = list.size(); i-- > 0;) {
      if (list.at(i).String("role") == "user") return std::string(list.at(i).String("content"));
    }
    throw Failure(RETORT_INVALID_ARGUMENT, "no message of the user to answer");
  }

  // The first fail_times tries of a request with fail_on in its prompt, or all of them.
  bool Fails(uint64_t uid, const std::string& prompt) {
    if (fail_on_.empty() || prompt.find(fail_on_) == std::string::npos) return false;
    return fail_times_ == 0 || ++tries_[uid] <= fail_times_;
  }

  Answer MakeAnswer(std::string_view prompt, uint32_t sample, const JsonValue& params) const {
    Answer answer{.text = template_};
    ReplaceAll(&answer.text, "{sample}", std::to_string(sample));
    ReplaceAll(&answer.text, "{prompt}", prompt);
    const JsonValue stop = params["stop"];
    for (size_t i = 0; i < stop.size(); ++i) {
      const std::string_view text = stop.at(i).AsString();
      if (!text.empty()) answer.text = answer.text.substr(0, answer.text.find(text));
    }
    if (const JsonValue limit = params["max_tokens"]) {
      const size_t end = EndOfWords(answer.text, limit.AsInt());
      if (end != std::string_view::npos) {
        answer.text.resize(end);
        answer.finish = RETORT_FINISH_LENGTH;
      }
    }
    return answer;
  }

  void Report(const Open& open, uint32_t sample, const Events& events) const {
    const Answer& answer = open.answers[sample];
    const std::string_view text = answer.text;
    for (size_t at = 0; chunk_bytes_ > 0 && at < text.size();) {
      const size_t end = EndOfPart(text, at, chunk_bytes_);
      events.Delta(open.uid, sample, text.substr(at, end - at));
      at = end;
    }
    events.Done(open.uid, sample, Completion{.text = text, .finish = answer.finish});
  }

  Host host_;
  std::string template_, fail_on_;
  size_t chunk_bytes_, max_queue_;
  int64_t fail_times_;
  std::deque<Open> open_;
  std::map<uint64_t, int64_t> tries_;
};

RETORT_GENERATOR("echo", Echo, "answers from a template, for tests", kSchema);

}  // namespace
