// The tokenizer's own steps: cut added tokens, normalise, split into words, BPE, and back.
// SPDX-License-Identifier: Apache-2.0
#include "core/text/tokenizer.h"

#include <utility>

#include "core/text/tokenizer_parts.h"
#include "core/text/unicode.h"

namespace retort::text {
namespace {

constexpr uint64_t kMaxJsonBytes = uint64_t{64} << 20;
constexpr size_t kMaxTextBytes = size_t{1} << 30;  // symbols are counted in 32 bits

// Takes a scratch from the tokenizer's idle ones, and gives it back.
class ScratchLease {
 public:
  ScratchLease(std::mutex& mutex, std::vector<std::unique_ptr<EncodeScratch>>& idle)
      : mutex_(mutex), idle_(idle) {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      scratch_ = std::move(idle_.back());
      idle_.pop_back();
    }
    if (!scratch_) scratch_ = std::make_unique<EncodeScratch>();
  }
  ~ScratchLease() {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(scratch_));
  }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  EncodeScratch* get() { return scratch_.get(); }

 private:
  std::mutex& mutex_;
  std::vector<std::unique_ptr<EncodeScratch>>& idle_;
  std::unique_ptr<EncodeScratch> scratch_;
};

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view tokenizer_json,
                                                       std::string_view tokenizer_config_json,
                                                       std::string_view what) {
  return Impl::Make(tokenizer_json, nullptr, tokenizer_config_json, what);
}

Result<std::unique_ptr<Tokenizer>> TokenizerFromTables(std::string_view tokenizer_json,
                                                       const BpeTables& tables,
                                                       std::string_view tokenizer_config_json,
                                                       std::string_view what) {
  return Tokenizer::Impl::Make(tokenizer_json, &tables, tokenizer_config_json, what);
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::Impl::Make(std::string_view tokenizer_json,
                                                         const BpeTables* tables,
                                                         std::string_view tokenizer_config_json,
                                                         std::string_view what) {
  const json::ParseOptions options{.max_bytes = kMaxJsonBytes};
  RETORT_ASSIGN_OR_RETURN(
      const json::Document document,
      json::Document::Parse(tokenizer_json, std::string(what) + ": tokenizer.json", options));
  auto impl = std::make_unique<Impl>();
  impl->what = std::string(what);
  RETORT_RETURN_IF_ERROR(impl->ReadTokenizer(document.root(), tables));
  if (!tokenizer_config_json.empty()) {
    RETORT_ASSIGN_OR_RETURN(
        const json::Document config,
        json::Document::Parse(tokenizer_config_json, std::string(what) + ": tokenizer_config.json",
                              options));
    RETORT_RETURN_IF_ERROR(impl->ReadConfig(config.root()));
  }
  impl->KeepHashed(document.root());
  if (tables == nullptr) impl->Hash();  // rather than keep the whole text
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

std::string_view Tokenizer::Impl::TokenOf(int32_t id) const {
  const AddedToken* token = AddedOf(id);
  return token != nullptr ? std::string_view(token->content) : bpe.tokens().Get(id);
}
const AddedToken* Tokenizer::Impl::AddedOf(int32_t id) const {
  if (id < 0 || id >= vocab_size) return nullptr;
  const int32_t index = added_of[static_cast<size_t>(id)];
  return index < 0 ? nullptr : &added[static_cast<size_t>(index)];
}
std::optional<int32_t> Tokenizer::Impl::IdOf(std::string_view token) const {
  const auto id = added_ids.Find(token);
  return id ? id : bpe.vocab().Find(token);
}

Status Tokenizer::Impl::EncodeWords(std::string_view text, bool at_start, EncodeScratch* scratch,
                                    std::vector<int32_t>* ids) const {
  Words& words = scratch->words;
  words.text = text;
  RETORT_RETURN_IF_ERROR(pre_tokenizer.Split(at_start, &words));
  for (const Range range : words.ranges) {
    bpe.EncodeWord(words.text.substr(range.begin, range.end - range.begin), &scratch->bpe, ids);
  }
  return OkStatus();
}

// Text between raw added tokens: normalise, cut the normalised tokens, encode the rest.
Status Tokenizer::Impl::EncodeText(std::string_view text, bool at_start, bool plain_special,
                                   EncodeScratch* scratch, std::vector<int32_t>* ids) const {
  const std::string_view normal = normalizer.Apply(text, &scratch->normalized);
  if (normalized_matcher.empty()) return EncodeWords(normal, at_start, scratch, ids);
  scratch->normalized_cuts.clear();
  normalized_matcher.CutText(normal, plain_special, &scratch->normalized_cuts);
  for (const Cut& cut : scratch->normalized_cuts) {
    if (cut.token != nullptr) {
      ids->push_back(cut.token->id);
      continue;
    }
    RETORT_RETURN_IF_ERROR(EncodeWords(normal.substr(cut.begin, cut.end - cut.begin),
                                       at_start && cut.begin == 0, scratch, ids));
  }
  return OkStatus();
}

Result<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                               const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return InvalidArgument(impl_->what + ": a text of " + std::to_string(text.size()) +
                           " bytes is over the limit of 1 GiB");
  }
  ScratchLease lease(impl_->mutex, impl_->idle);
  EncodeScratch* scratch = lease.get();
  if (!IsValidUtf8(text)) {
    scratch->valid = LossyUtf8(text);
    text = scratch->valid;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 8);
  if (options.add_special_tokens) ids = impl_->post_processor.prefix;
  scratch->cuts.clear();
  impl_->raw_matcher.CutText(text, options.split_special_tokens, &scratch->cuts);
  for (const Cut& cut : scratch->cuts) {
    if (cut.token != nullptr) {
      ids.push_back(cut.token->id);
      continue;
    }
    RETORT_RETURN_IF_ERROR(impl_->EncodeText(text.substr(cut.begin, cut.end - cut.begin),
                                             cut.begin == 0, options.split_special_tokens, scratch,
                                             &ids));
  }
  if (options.add_special_tokens) {
    const auto& suffix = impl_->post_processor.suffix;
    ids.insert(ids.end(), suffix.begin(), suffix.end());
  }
  return ids;
}

Result<std::string> Tokenizer::Decode(std::span<const int32_t> ids,
                                      bool skip_special_tokens) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= impl_->vocab_size) {
      return OutOfRange(impl_->what + ": token id " + std::to_string(ids[i]) + " at position " +
                        std::to_string(i) + " is outside the tokenizer's vocabulary of " +
                        std::to_string(impl_->vocab_size));
    }
  }
  if (impl_->decoder.is_bytes()) {
    std::string bytes;
    for (int32_t id : ids) {
      if (!IsSpecial(id)) {
        bytes += impl_->bytes.Get(id);
      } else if (!skip_special_tokens) {
        bytes += impl_->decoder.TokenBytes(IdToToken(id));
      }
    }
    return IsValidUtf8(bytes) ? std::move(bytes) : LossyUtf8(bytes);
  }
  std::vector<std::string> tokens;
  for (int32_t id : ids) {
    const bool known = impl_->AddedOf(id) != nullptr || impl_->bpe.tokens().Has(id);
    if (known && !(skip_special_tokens && IsSpecial(id))) tokens.emplace_back(IdToToken(id));
  }
  return impl_->decoder.Decode(std::move(tokens));
}

int32_t Tokenizer::vocab_size() const { return impl_->vocab_size; }
std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  return impl_->IdOf(token);
}
std::string_view Tokenizer::IdToToken(int32_t id) const { return impl_->TokenOf(id); }
bool Tokenizer::IsSpecial(int32_t id) const {
  const AddedToken* token = impl_->AddedOf(id);
  return token != nullptr && token->special;
}
std::string Tokenizer::TokenBytes(int32_t id) const { return std::string(impl_->bytes.Get(id)); }
std::string Tokenizer::StripStart(std::string first) const {
  impl_->decoder.StripStart(&first);
  return first;
}
int32_t Tokenizer::bos_id() const { return impl_->bos; }
int32_t Tokenizer::eos_id() const { return impl_->eos; }
int32_t Tokenizer::pad_id() const { return impl_->pad; }
const std::string& Tokenizer::hash() const { return impl_->Hash(); }

}  // namespace retort::text
