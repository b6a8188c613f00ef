// Parsing: RapidJSON's iterative SAX reader into the flat node array, with every limit checked
// while reading. RapidJSON neither sees nor makes a tree; numbers stay text.
// SPDX-License-Identifier: Apache-2.0
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/json/document_impl.h"

namespace retort::json {
namespace {

constexpr unsigned kFlags = rapidjson::kParseIterativeFlag | rapidjson::kParseNumbersAsStringsFlag |
                            rapidjson::kParseValidateEncodingFlag;
constexpr unsigned kLenientFlags =
    kFlags | rapidjson::kParseCommentsFlag | rapidjson::kParseTrailingCommasFlag;

// What the reader reads from. Not rapidjson::StringStream: of that the reader works on a local
// copy, and the handler could not ask how far it is; and it takes whole UTF-8 characters without
// looking, also past the end. This one gives NULs there, at which the reader stops.
class Stream {
 public:
  using Ch = char;
  explicit Stream(std::string_view text) : text_(text) {}
  Ch Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  Ch Take() { return at_ < text_.size() ? text_[at_++] : '\0'; }
  size_t Tell() const { return at_; }
  // Of in-situ parsing, which is not used.
  Ch* PutBegin() { return nullptr; }
  void Put(Ch) {}
  void Flush() {}
  size_t PutEnd(Ch*) { return 0; }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

// Receives the reader's events. Each returns false after setting `error` and `error_pos`.
class Handler {
 public:
  Handler(DocumentImpl* doc, const ParseOptions& options, const Stream* stream)
      : doc_(*doc), options_(options), stream_(*stream) {}

  bool Null() { return Scalar(Type::kNull, false); }
  bool Bool(bool b) { return Scalar(Type::kBool, b); }
  bool RawNumber(const char*, rapidjson::SizeType, bool) { return Scalar(Type::kNumber, false); }
  bool String(const char* s, rapidjson::SizeType n, bool) {
    const uint32_t pos = TokenStart();
    return Counted(pos) && AddString(s, n, pos, have_key_) && EndValue();
  }
  bool Key(const char* s, rapidjson::SizeType n, bool) {
    const uint32_t pos = TokenStart();
    if (++n_keys_ > options_.max_keys) {
      return Fail(pos, "more than " + std::to_string(options_.max_keys) + " keys");
    }
    if (!AddString(s, n, pos, false)) return false;
    have_key_ = true;
    position_ = Tell();
    return true;
  }
  bool StartObject() { return Start(Type::kObject); }
  bool StartArray() { return Start(Type::kArray); }
  bool EndObject(rapidjson::SizeType) { return End(); }
  bool EndArray(rapidjson::SizeType) { return End(); }
  // Never called with numbers as strings.
  bool Int(int) { return false; }
  bool Uint(unsigned) { return false; }
  bool Int64(int64_t) { return false; }
  bool Uint64(uint64_t) { return false; }
  bool Double(double) { return false; }

  const std::string& error() const { return error_; }
  uint32_t error_pos() const { return error_pos_; }

 private:
  uint32_t Tell() const { return static_cast<uint32_t>(stream_.Tell()); }

  bool Fail(uint32_t pos, std::string rule) {
    error_ = std::move(rule);
    error_pos_ = pos;
    return false;
  }

  // The first byte of the token just read: behind the last one, past separators and comments.
  uint32_t TokenStart() const {
    const std::string& t = doc_.text;
    size_t p = position_;
    while (p < t.size()) {
      if (t[p] == '/') {
        const bool block = p + 1 < t.size() && t[p + 1] == '*';
        const size_t end = block ? t.find("*/", p + 2) : t.find('\n', p + 1);
        if (end == std::string::npos) break;
        p = end + (block ? 2 : 1);
      } else if (std::strchr(" \t\r\n,:", t[p]) != nullptr) {
        ++p;
      } else {
        break;
      }
    }
    return static_cast<uint32_t>(p);
  }

  bool Counted(uint32_t pos) {
    if (++n_values_ <= options_.max_values) return true;
    return Fail(pos, "more than " + std::to_string(options_.max_values) + " values");
  }

  bool Scalar(Type type, bool truth) {
    const uint32_t pos = TokenStart();
    if (!Counted(pos)) return false;
    doc_.nodes.push_back({.pos = pos,
                          .start = pos,
                          .count = Tell() - pos,
                          .type = type,
                          .is_member = have_key_,
                          .truth = truth});
    return EndValue();
  }

  // Strings without escapes are views of the text; the others go to the pool.
  bool AddString(const char* s, size_t n, uint32_t pos, bool is_member) {
    const bool escaped = Tell() - pos != n + 2;
    Node node{.pos = pos,
              .start = pos + 1,
              .count = static_cast<uint32_t>(n),
              .type = Type::kString,
              .in_pool = escaped,
              .is_member = is_member};
    if (escaped) {
      if (HasSurrogate({s, n})) return Fail(pos, "a lone surrogate (\\uD800..\\uDFFF) in a string");
      node.start = static_cast<uint32_t>(doc_.pool.size());
      doc_.pool.append(s, n);
    }
    doc_.nodes.push_back(node);
    return true;
  }

  // RapidJSON 1.1.0 lets a lone low surrogate pass and encodes it in three bytes.
  static bool HasSurrogate(std::string_view s) {
    for (size_t i = s.find('\xED'); i != s.npos; i = s.find('\xED', i + 1)) {
      if (i + 1 < s.size() && static_cast<unsigned char>(s[i + 1]) >= 0xA0) return true;
    }
    return false;
  }

  bool EndValue() {
    if (!open_.empty()) pending_.push_back(static_cast<uint32_t>(doc_.nodes.size() - 1));
    have_key_ = false;
    position_ = Tell();
    return true;
  }

  // The reader calls the handler before it takes the bracket.
  bool Start(Type type) {
    const uint32_t pos = Tell();
    if (!Counted(pos)) return false;
    if (open_.size() >= options_.max_depth) {
      return Fail(pos, "nested deeper than " + std::to_string(options_.max_depth));
    }
    const auto node = static_cast<uint32_t>(doc_.nodes.size());
    doc_.nodes.push_back({.pos = pos, .type = type, .is_member = have_key_});
    if (!open_.empty()) pending_.push_back(node);
    open_.push_back({node, pending_.size()});
    have_key_ = false;
    position_ = pos + 1;
    return true;
  }

  bool End() {
    const auto [index, first_pending] = open_.back();
    open_.pop_back();
    Node& node = doc_.nodes[index];
    node.start = static_cast<uint32_t>(doc_.children.size());
    node.count = static_cast<uint32_t>(pending_.size() - first_pending);
    const auto first = pending_.begin() + static_cast<ptrdiff_t>(first_pending);
    doc_.children.insert(doc_.children.end(), first, pending_.end());
    pending_.erase(first, pending_.end());
    position_ = Tell() + 1;
    return node.type != Type::kObject || IndexMembers(node);
  }

  // Sorts the members of a big object by key; equal keys are refused either way.
  bool IndexMembers(const Node& node) {
    const uint32_t n = node.count;
    std::vector<uint32_t>& children = doc_.children;
    const auto by_key = [this](uint32_t a, uint32_t b) {
      const int order = doc_.KeyOf(a).compare(doc_.KeyOf(b));
      return order != 0 ? order < 0 : a < b;
    };
    if (n <= kLinearMembers) {
      for (uint32_t i = 1; i < n; ++i) {
        for (uint32_t j = 0; j < i; ++j) {
          const uint32_t a = children[node.start + i], b = children[node.start + j];
          if (doc_.KeyOf(a) == doc_.KeyOf(b)) return Duplicate(a);
        }
      }
      return true;
    }
    children.resize(children.size() + n);
    const auto list = children.begin() + node.start, sorted = list + n;
    std::copy(list, sorted, sorted);
    std::sort(sorted, children.end(), by_key);
    for (uint32_t i = 1; i < n; ++i) {
      if (doc_.KeyOf(sorted[i]) == doc_.KeyOf(sorted[i - 1])) return Duplicate(sorted[i]);
    }
    return true;
  }

  bool Duplicate(uint32_t value_node) {
    return Fail(doc_.nodes[value_node - 1].pos,
                "key \"" + std::string(doc_.KeyOf(value_node)) + "\" occurs twice");
  }

  struct Open {
    uint32_t node;
    size_t first_pending;
  };
  DocumentImpl& doc_;
  const ParseOptions& options_;
  const Stream& stream_;
  std::vector<Open> open_;
  std::vector<uint32_t> pending_;  // children of the open containers
  uint32_t position_ = 0;          // behind the last token
  uint32_t n_values_ = 0, n_keys_ = 0;
  bool have_key_ = false;
  std::string error_;
  uint32_t error_pos_ = 0;
};

// An upper bound of nodes, so that the array never grows by doubling: each is followed by, or
// opens with, one of these bytes.
size_t CountNodes(std::string_view text) {
  size_t n = 1;
  for (char c : text) n += c == ',' || c == ':' || c == '[' || c == '{';
  return n;
}

Status Located(const DocumentImpl& doc, size_t offset, std::string_view rule) {
  const Position at = doc.At(static_cast<uint32_t>(offset));
  std::string message = doc.what + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
  return InvalidArgument(message.append(": ").append(rule));
}

}  // namespace

Position DocumentImpl::At(uint32_t offset) const {
  Position p;
  const std::string_view before = std::string_view(text).substr(0, offset);
  p.line += std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  p.column = static_cast<int64_t>(newline == before.npos ? offset : offset - newline - 1) + 1;
  return p;
}

Result<Document> Document::Parse(std::string_view text, std::string_view what,
                                 const ParseOptions& options) {
  constexpr uint64_t kOffsetsEnd = UINT32_MAX;
  const uint64_t limit = std::min(options.max_bytes, kOffsetsEnd);
  if (text.size() > limit) {
    return InvalidArgument(std::string(what) + ": " + std::to_string(text.size()) +
                           " bytes of JSON; the limit here is " + std::to_string(limit));
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  auto impl = std::make_unique<DocumentImpl>();
  impl->text = text;
  impl->what = what;
  const size_t n_max = size_t{options.max_values} + options.max_keys;
  impl->nodes.reserve(std::min(CountNodes(text), n_max) + 1);

  Stream stream(impl->text);
  rapidjson::Reader reader;
  Handler handler(impl.get(), options, &stream);
  const rapidjson::ParseResult result = options.allow_comments
                                            ? reader.Parse<kLenientFlags>(stream, handler)
                                            : reader.Parse<kFlags>(stream, handler);
  if (!handler.error().empty()) return Located(*impl, handler.error_pos(), handler.error());
  if (result.IsError()) {
    const size_t offset = std::min(result.Offset(), impl->text.size());
    return Located(*impl, offset, rapidjson::GetParseError_En(result.Code()));
  }
  if (stream.Tell() != impl->text.size()) {  // RapidJSON takes a NUL for the end
    return Located(*impl, stream.Tell(), "a NUL byte, and more after it, behind the value");
  }
  return Document(std::move(impl));
}

Document::Document(std::unique_ptr<DocumentImpl> impl) : impl_(std::move(impl)) {}
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;
Document::~Document() = default;

}  // namespace retort::json
