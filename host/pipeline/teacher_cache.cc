// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/teacher_cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "core/base/hash.h"
#include "core/json/json.h"

namespace retort::host {
namespace {

constexpr const char* kDescription = "cache.json";
// A shard ends at either: what a stop can cost, and what is held while it is made.
constexpr size_t kShardExamples = 1000;
constexpr int64_t kShardRows = 65'536;
// Stored as id - 32768 where ids allow it; the largest value: unused.
constexpr int32_t kNarrowOffset = 32'768, kNarrowUnused = 65'535;

// The first token of a document is never predicted.
bool HasRow(const data::SftExample& example, size_t t) { return t > 0 && example.trained[t] != 0; }

int64_t CountRows(const data::SftExample& example, size_t end) {
  int64_t rows = 0;
  for (size_t t = 1; t < end; ++t) rows += HasRow(example, t) ? 1 : 0;
  return rows;
}

int64_t KeyOf(const data::SftExample& example) {
  const std::string_view trained(reinterpret_cast<const char*>(example.trained.data()),
                                 example.trained.size());
  const std::string_view ids(reinterpret_cast<const char*>(example.ids.data()),
                             example.ids.size() * sizeof(int32_t));
  return static_cast<int64_t>(XxHash64(ids, XxHash64(trained)));
}

std::string Differs(const std::string& what, const std::string& there, const std::string& here) {
  return there == here ? "" : "\n  " + what + ": " + there + " there, " + here + " here";
}

// What differs between a description and what is wanted; "" if nothing does.
std::string DifferenceOf(const json::Value& there, const TeacherCacheIdentity& here) {
  const auto text = [&](const char* key) { return std::string(there[key].StringOr("nothing")); };
  return Differs("teacher", text("teacher"), here.teacher) +
         Differs("tokenizer", text("tokenizer"), here.tokenizer) +
         Differs("temperature", std::to_string(there["temperature"].DoubleOr(0)),
                 std::to_string(here.temperature)) +
         Differs("k", std::to_string(there["k"].IntOr(0)), std::to_string(here.k)) +
         Differs("examples", text("examples"), here.examples);
}

// Within what rounding allows.
bool IsLogProbability(float value) { return value <= 1e-3F && std::isfinite(value); }

bool FitsNarrow(std::span<const int32_t> ids) {
  return std::all_of(ids.begin(), ids.end(), [](int32_t id) { return id < kNarrowUnused; });
}

}  // namespace

std::string TeacherCacheIdentity::ToJson() const {
  json::Writer writer(2);
  writer.BeginObject().Field("retort_teacher_cache", int64_t{1}).Field("teacher", teacher);
  writer.Field("tokenizer", tokenizer).Field("temperature", temperature);
  writer.Field("k", int64_t{k}).Field("examples", examples).EndObject();
  return writer.Take();
}

std::string TeacherCacheIdentity::Hash() const { return HashHex(ToJson()); }

std::string HashExamples(std::span<const data::SftExample> examples) {
  Hasher hasher;
  for (const data::SftExample& example : examples) {
    const int64_t key = KeyOf(example);
    hasher.Update(&key, sizeof(key));
  }
  return hasher.Hex();
}

TeacherCache::TeacherCache(io::FileSystem& fs, std::string folder, TeacherCacheIdentity identity,
                           std::span<const data::SftExample> examples)
    : fs_(&fs), folder_(std::move(folder)), identity_(std::move(identity)), examples_(examples) {
  for (size_t i = 0; i < examples_.size(); ++i) {
    if (shards_.empty() || i - shards_.back().begin >= kShardExamples ||
        shards_.back().rows >= kShardRows) {
      shards_.push_back({.begin = i});
    }
    Shard& shard = shards_.back();
    shard_of_.push_back(shards_.size() - 1);
    first_row_.push_back(shard.rows);
    const int64_t rows = CountRows(examples_[i], examples_[i].ids.size());
    shard.end = i + 1;
    shard.rows += rows;
    n_rows_ += rows;
  }
}

Result<TeacherCache> TeacherCache::Open(io::FileSystem& fs, const std::string& folder,
                                        const TeacherCacheIdentity& identity,
                                        std::span<const data::SftExample> examples) {
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(folder));
  const std::string path = io::Join(folder, kDescription);
  TeacherCache cache(fs, folder, identity, examples);
  RETORT_ASSIGN_OR_RETURN(const bool described, io::IsThere(fs, path));
  if (!described) {
    RETORT_RETURN_IF_ERROR(io::DurableWrite(fs, path, identity.ToJson()).status());
    return cache;
  }
  constexpr uint64_t kMaxBytes = uint64_t{1} << 16;
  RETORT_ASSIGN_OR_RETURN(const std::string text, fs.Read(path, kMaxBytes));
  RETORT_ASSIGN_OR_RETURN(const json::Document there, json::Document::Parse(text, path));
  if (there.root()["retort_teacher_cache"].IntOr(0) != 1) {
    return FailedPrecondition(path + ": is not the description of a teacher's cache of version 1");
  }
  const std::string difference = DifferenceOf(there.root(), identity);
  if (difference.empty()) return cache;
  return FailedPrecondition(folder + " caches other rows than this stage needs:" + difference +
                            "\nname another folder in teacher_cache, or delete this one to have "
                            "it made anew");
}

std::span<const data::SftExample> TeacherCache::ExamplesOf(size_t shard) const {
  return examples_.subspan(shards_[shard].begin, shards_[shard].end - shards_[shard].begin);
}

std::string TeacherCache::PathOf(size_t shard) const {
  std::string number = std::to_string(shard);
  number.insert(0, number.size() < 5 ? 5 - number.size() : 0, '0');
  return io::Join(folder_, "rows-" + number + ".safetensors");
}

Status TeacherCache::Write(size_t shard, const engine::TeacherRows& rows) {
  const Shard& s = shards_[shard];
  const int64_t k = identity_.k;
  std::vector<int64_t> offsets, keys;
  for (size_t i = s.begin; i < s.end; ++i) {
    offsets.push_back(first_row_[i]);
    keys.push_back(KeyOf(examples_[i]));
  }
  offsets.push_back(s.rows);
  std::vector<int16_t> narrow;
  if (FitsNarrow(rows.ids)) {
    for (const int32_t id : rows.ids) {
      narrow.push_back(static_cast<int16_t>((id < 0 ? kNarrowUnused : id) - kNarrowOffset));
    }
  }
  // Views want memory that may be written; nobody does.
  const auto view = [](const auto& values, DType dtype, std::vector<int64_t> shape) {
    return TensorView::Contiguous(const_cast<void*>(static_cast<const void*>(values.data())), dtype,
                                  shape);
  };
  const bool wide = narrow.size() != rows.ids.size();
  const TensorView ids =
      wide ? view(rows.ids, DType::kI32, {s.rows, k}) : view(narrow, DType::kI16, {s.rows, k});
  const auto n = static_cast<int64_t>(keys.size());
  const std::map<std::string, std::string> metadata = {{"identity", identity_.Hash()}};
  return io::WriteSafetensors(*fs_, PathOf(shard),
                              {{"ids", ids, ids.dtype},
                               {"logp", view(rows.logp, DType::kF32, {s.rows, k}), DType::kF16},
                               {"tail", view(rows.tail, DType::kF32, {s.rows}), DType::kF32},
                               {"offsets", view(offsets, DType::kI64, {n + 1}), DType::kI64},
                               {"keys", view(keys, DType::kI64, {n}), DType::kI64}},
                              metadata)
      .status();
}

// Names, types and shapes, and that the rows are of these examples.
Status TeacherCache::Check(size_t shard, const io::Safetensors& file) const {
  const Shard& s = shards_[shard];
  const auto n = static_cast<int64_t>(s.end - s.begin);
  const std::vector<int64_t> matrix = {s.rows, identity_.k};
  const auto bad = [&](const std::string& what) { return DataLoss(PathOf(shard) + ": " + what); };
  const auto is = [&](const char* name, std::string_view dtype, const std::vector<int64_t>& shape) {
    const io::SafetensorsEntry* entry = file.Find(name);
    return entry != nullptr && entry->dtype == dtype && entry->shape == shape;
  };
  const auto id = file.metadata().find("identity");
  if (id == file.metadata().end() || id->second != identity_.Hash()) {
    return bad("its identity is not that of " + io::Join(folder_, kDescription));
  }
  if (!is("ids", "I16", matrix) && !is("ids", "I32", matrix))
    return bad("ids is not as it should be");
  if (!is("logp", "F16", matrix)) return bad("logp is not as it should be");
  if (!is("tail", "F32", {s.rows})) return bad("tail is not as it should be");
  if (!is("offsets", "I64", {n + 1})) return bad("offsets is not as it should be");
  if (!is("keys", "I64", {n})) return bad("keys is not as it should be");
  const char* offsets = file.bytes(*file.Find("offsets")).data();
  const char* keys = file.bytes(*file.Find("keys")).data();
  for (size_t i = s.begin; i <= s.end; ++i) {
    int64_t offset = 0, key = 0;
    std::memcpy(&offset, offsets + (i - s.begin) * sizeof(offset), sizeof(offset));
    if (offset != (i < s.end ? first_row_[i] : s.rows)) {
      return bad("offset " + std::to_string(i - s.begin) + " is " + std::to_string(offset));
    }
    if (i == s.end) break;
    std::memcpy(&key, keys + (i - s.begin) * sizeof(key), sizeof(key));
    if (key != KeyOf(examples_[i])) {
      return bad("key " + std::to_string(i - s.begin) + " is of another example");
    }
  }
  return OkStatus();
}

Status TeacherCache::Map(size_t shard) {
  const std::string path = PathOf(shard);
  RETORT_ASSIGN_OR_RETURN(const bool there, io::IsThere(*fs_, path));
  if (!there) return NotFound(path + " is not there");
  Result<io::Safetensors> file = io::Safetensors::Open(path);
  if (io::IsOfTheSystem(file.status())) return file.status();
  if (!file.ok()) return DataLoss(file.status().message());
  RETORT_RETURN_IF_ERROR(Check(shard, *file));
  Shard& s = shards_[shard];
  s.file = std::move(*file);
  const auto at = [&](const char* name) { return s.file->bytes(*s.file->Find(name)).data(); };
  s.wide_ids = s.file->Find("ids")->dtype == "I32";
  s.ids = at("ids");
  s.logp = at("logp");
  s.tail = at("tail");
  return OkStatus();
}

int64_t TeacherCache::bytes() const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < shards_.size(); ++i) {
    const Result<io::FileInfo> info = fs_->Stat(PathOf(i));
    if (info.ok()) bytes += info->bytes;
  }
  return static_cast<int64_t>(bytes);
}

int32_t TeacherCache::IdAt(const Shard& shard, int64_t at) {
  if (shard.wide_ids) {
    int32_t id = 0;
    std::memcpy(&id, shard.ids + at * 4, sizeof(id));
    return id;
  }
  int16_t narrow = 0;
  std::memcpy(&narrow, shard.ids + at * 2, sizeof(narrow));
  const int32_t id = narrow + kNarrowOffset;
  return id == kNarrowUnused ? -1 : id;
}

Status TeacherCache::ReadRow(const Shard& shard, int64_t row, int64_t vocab, int32_t* ids,
                             float* logp, float* tail) const {
  const int64_t k = identity_.k;
  RETORT_RETURN_IF_ERROR(io::CastFloats("F16", shard.logp + row * k * 2, k, DType::kF32, logp));
  std::memcpy(tail, shard.tail + row * 4, sizeof(*tail));
  const auto bad = [&](const std::string& what) {
    return DataLoss(shard.file->files()[0] + ": row " + std::to_string(row) + " has " + what +
                    "; delete the file to have it made anew");
  };
  if (!IsLogProbability(*tail)) return bad("the tail " + std::to_string(*tail));
  double beyond = 0;  // mass of padding
  int64_t kept = 0;
  for (int64_t j = 0; j < k; ++j) {
    const int32_t id = IdAt(shard, row * k + j);
    if (id < -1) return bad("the id " + std::to_string(id));
    if (id < 0) continue;
    if (!IsLogProbability(logp[j])) return bad("logp " + std::to_string(logp[j]));
    if (id >= vocab) {
      beyond += std::exp(double{logp[j]});
      continue;
    }
    ids[kept] = id;
    logp[kept++] = logp[j];
  }
  std::fill(ids + kept, ids + k, -1);
  std::fill(logp + kept, logp + k, 0.0F);
  if (beyond == 0) return OkStatus();
  if (beyond >= 1) {
    return bad("only tokens beyond the student's vocabulary of " + std::to_string(vocab));
  }
  const auto whole = static_cast<float>(std::log1p(-beyond));
  for (int64_t j = 0; j < kept; ++j) logp[j] -= whole;
  *tail -= whole;
  return OkStatus();
}

Result<engine::TeacherRows> TeacherCache::RowsOf(std::span<const data::Piece> pieces,
                                                 int64_t vocab) const {
  const auto k = static_cast<size_t>(identity_.k);
  size_t tokens = 0;
  for (const data::Piece& piece : pieces) tokens += static_cast<size_t>(piece.size());
  engine::TeacherRows rows = {.k = identity_.k,
                              .ids = std::vector<int32_t>(tokens * k, -1),
                              .logp = std::vector<float>(tokens * k, 0),
                              .tail = std::vector<float>(tokens, 0)};
  size_t at = 0;
  for (const data::Piece& piece : pieces) {
    const auto document = static_cast<size_t>(piece.document);
    const data::SftExample& example = examples_[document];
    const Shard& shard = shards_[shard_of_[document]];
    int64_t row = first_row_[document] + CountRows(example, static_cast<size_t>(piece.begin) + 1);
    for (int64_t t = piece.begin; t < piece.end; ++t, ++at) {  // its row predicts token t + 1
      if (t + 1 >= piece.end || !HasRow(example, static_cast<size_t>(t + 1))) continue;
      RETORT_RETURN_IF_ERROR(ReadRow(shard, row++, vocab, rows.ids.data() + at * k,
                                     rows.logp.data() + at * k, rows.tail.data() + at));
    }
  }
  return rows;
}

}  // namespace retort::host
