// SPDX-License-Identifier: Apache-2.0
#include "core/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "core/text/unicode.h"

namespace retort::text {
namespace {

constexpr size_t kMaxPatternBytes = 16 * 1024;
constexpr uint32_t kMaxNesting = 50;
constexpr uint32_t kDepthLimit = 1000;
constexpr uint32_t kHeapLimitKiB = 16 * 1024;
constexpr size_t kJitStackBytes = size_t{1} << 20;

// White_Space without Oniguruma's \s including U+180E, which PCRE2 counts.
constexpr std::string_view kSpaceSet =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";

Status Refuse(std::string_view pattern, std::string_view why) {
  std::string shown(pattern.substr(0, 80));
  if (pattern.size() > 80) shown += "...";
  return InvalidArgument("split pattern '" + LossyUtf8(shown) + "': " + std::string(why));
}

std::string PcreMessage(int code) {
  PCRE2_UCHAR buffer[256];
  const int n = pcre2_get_error_message(code, buffer, sizeof buffer);
  return n > 0 ? std::string(reinterpret_cast<const char*>(buffer), static_cast<size_t>(n))
               : "error " + std::to_string(code);
}

// Walks a pattern and rewrites it.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> Run() {
    if (in_.substr(0, 2) == "(*") return Refuse(in_, "leading (* verbs are not allowed");
    while (at_ < in_.size()) {
      const Status step = in_class_ ? InClass() : Outside();
      if (!step.ok()) return step;
    }
    return std::move(out_);
  }

 private:
  bool Starts(std::string_view text) const { return in_.substr(at_, text.size()) == text; }
  bool Follows(char c) const { return at_ + 2 < in_.size() && in_[at_ + 2] == c; }
  Status Take(size_t n) {
    out_ += in_.substr(at_, n);
    at_ += n;
    return OkStatus();
  }

  Status Outside() {
    if (in_[at_] == '\\') return Escape();
    if (Starts("(*")) return Refuse(in_, "(* verbs are not allowed");
    if (Starts("(?C")) return Refuse(in_, "callouts are not allowed");
    if (Starts("(?")) return Group();
    if (in_[at_] == '[') {
      in_class_ = true;
      RETORT_RETURN_IF_ERROR(Take(1));
      if (Starts("^")) RETORT_RETURN_IF_ERROR(Take(1));
      if (Starts("]")) return Refuse(in_, "an empty class is not supported");
      return OkStatus();
    }
    if (in_[at_] == '}' && at_ + 1 < in_.size() && in_[at_ + 1] == '+') {
      return Refuse(in_, "'{n,m}+' means repetition in Oniguruma and is not supported");
    }
    return Take(1);
  }

  // Inline options: only i and x mean the same on both sides.
  Status Group() {
    for (size_t i = at_ + 2; i < in_.size(); ++i) {
      const char c = in_[i];
      if (c == ':' || c == ')') break;
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (!letter && c != '-') break;
      if (letter && c != 'i' && c != 'x') {
        return Refuse(in_, std::string("the inline option '") + c +
                               "' differs between regex engines and is not supported");
      }
    }
    return Take(2);
  }

  Status InClass() {
    if (in_[at_] == '\\') return Escape();
    if (Starts("&&")) return Refuse(in_, "'&&' in a class is not supported");
    if (Starts("[:")) {
      const size_t end = in_.find(":]", at_);
      if (end == std::string_view::npos) return Refuse(in_, "'[:' without ':]'");
      return Take(end + 2 - at_);
    }
    if (in_[at_] == '[') return Refuse(in_, "a class inside a class is not supported");
    if (in_[at_] == ']') in_class_ = false;
    return Take(1);
  }

  Status Escape() {
    if (at_ + 1 == in_.size()) return Refuse(in_, "it ends in a backslash");
    const char c = in_[at_ + 1];
    switch (c) {
      case 's': return Put(in_class_ ? std::string(kSpaceSet) : "[" + std::string(kSpaceSet) + "]");
      case 'S':
        if (in_class_) return Refuse(in_, "'\\S' in a class is not supported");
        return Put("[^" + std::string(kSpaceSet) + "]");
      case 'h': return Put(in_class_ ? "0-9a-fA-F" : "[0-9a-fA-F]");
      case 'H':
        if (in_class_) return Refuse(in_, "'\\H' in a class is not supported");
        return Put("[^0-9a-fA-F]");
      case 'C':
      case 'G':
      case 'K':
      case 'Q':
      case 'E':
      case 'R':
      case 'X':
      case 'N':
      case 'O':
      case 'Z':
      case 'g': return Refuse(in_, std::string("'\\") + c + "' is not supported");
      case 'p':
      case 'P':
      case 'x': {  // their braces are no quantifier
        const size_t close = Follows('{') ? in_.find('}', at_) : std::string_view::npos;
        return Take(close == std::string_view::npos ? 2 : close + 1 - at_);
      }
      default: return Take(2);
    }
  }
  Status Put(std::string_view text) {
    out_ += text;
    at_ += 2;
    return OkStatus();
  }

  std::string_view in_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

template <class T, void (*Free)(T*)>
struct Freer {
  void operator()(T* p) const { Free(p); }
};
template <class T, void (*Free)(T*)>
using Owned = std::unique_ptr<T, Freer<T, Free>>;

using Code_ = Owned<pcre2_code, pcre2_code_free>;
using CompileContext = Owned<pcre2_compile_context, pcre2_compile_context_free>;
using MatchContext = Owned<pcre2_match_context, pcre2_match_context_free>;
using MatchData = Owned<pcre2_match_data, pcre2_match_data_free>;
using JitStack = Owned<pcre2_jit_stack, pcre2_jit_stack_free>;

}  // namespace

struct Regex::Impl {
  Code_ code;
  bool jit = false;
};

Regex::Regex(std::string pattern, std::unique_ptr<Impl> impl)
    : pattern_(std::move(pattern)), impl_(std::move(impl)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<std::string> TranslatePattern(std::string_view pattern) { return Translator(pattern).Run(); }

Result<Regex> Regex::Compile(std::string_view pattern, bool trusted) {
  if (pattern.size() > kMaxPatternBytes) {
    return Refuse(pattern, std::to_string(pattern.size()) + " bytes are over the limit of 16384");
  }
  RETORT_ASSIGN_OR_RETURN(const std::string translated, TranslatePattern(pattern));
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) return ResourceExhausted("no memory for a split pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kMaxNesting);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto impl = std::make_unique<Impl>();
  impl->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_MULTILINE,
                                 &error, &offset, context.get()));
  if (!impl->code) {
    return Refuse(pattern, PcreMessage(error) + " (at byte " + std::to_string(offset) + " of '" +
                               LossyUtf8(translated.substr(0, 120)) + "')");
  }
  impl->jit = trusted && pcre2_jit_compile(impl->code.get(), PCRE2_JIT_COMPLETE) == 0;
  return Regex(std::string(pattern), std::move(impl));
}

namespace {

// One walk over a text: contexts made for it, limits from its size.
struct Walk {
  MatchContext context{pcre2_match_context_create(nullptr)};
  MatchData data;
  JitStack stack;
};

Status Limit(const std::string& pattern, std::string_view text, const std::string& why) {
  return OutOfRange("split pattern '" + pattern.substr(0, 80) + "' on a text of " +
                    std::to_string(text.size()) + " bytes: " + why +
                    "; the pattern is too expensive for this text");
}

}  // namespace

Status Regex::FindAll(std::string_view text, const Deadline& deadline,
                      std::vector<Range>* matches) const {
  Walk walk;
  walk.data.reset(pcre2_match_data_create(1, nullptr));
  if (!walk.context || !walk.data) return ResourceExhausted("no memory to split a text");
  const size_t steps = std::min<size_t>(16 * text.size() + 10'000, 0xFFFFFFFF);
  pcre2_set_match_limit(walk.context.get(), static_cast<uint32_t>(steps));
  pcre2_set_depth_limit(walk.context.get(), kDepthLimit);
  pcre2_set_heap_limit(walk.context.get(), kHeapLimitKiB);
  if (impl_->jit) {
    walk.stack.reset(pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr));
    pcre2_jit_stack_assign(walk.context.get(), nullptr, walk.stack.get());
  }
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  uint32_t round = 0;
  for (size_t at = 0; at <= text.size();) {
    const int n = pcre2_match(impl_->code.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                              walk.data.get(), walk.context.get());
    if (n == PCRE2_ERROR_NOMATCH) break;
    if (n < 0) return Limit(pattern_, text, PcreMessage(n));
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(walk.data.get());
    const bool empty = span[1] <= span[0];
    // An empty match right after a match is none.
    const bool repeated = empty && !matches->empty() && matches->back().end == span[0];
    if (!repeated) matches->push_back({span[0], std::max(span[0], span[1])});
    at = span[1];
    if (empty) at += at < text.size() ? CharBytes(text[at]) : 1;
    if (++round % 64 == 0 && deadline.passed()) break;
  }
  if (deadline.passed()) {
    return Limit(pattern_, text, "the time limit of 1 s and 1 s per MB has passed");
  }
  return OkStatus();
}

}  // namespace retort::text
