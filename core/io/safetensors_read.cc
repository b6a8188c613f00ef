// Reading: the header is the only thing parsed; every rule of docs/formats.md §2 is one check
// with its own message. Sizes are compared with the bytes that remain before they are used.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "core/base/checked.h"
#include "core/io/safetensors.h"
#include "core/json/json.h"

namespace retort::io {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr uint64_t kMaxIndex = uint64_t{64} << 20;

struct Dtype {
  std::string_view name;
  uint64_t bytes;
};
constexpr std::array<Dtype, 15> kDtypes = {{{"BOOL", 1},
                                            {"U8", 1},
                                            {"I8", 1},
                                            {"F8_E4M3", 1},
                                            {"F8_E5M2", 1},
                                            {"I16", 2},
                                            {"U16", 2},
                                            {"F16", 2},
                                            {"BF16", 2},
                                            {"I32", 4},
                                            {"U32", 4},
                                            {"F32", 4},
                                            {"I64", 8},
                                            {"U64", 8},
                                            {"F64", 8}}};

// The parse of one header; `what` is the file.
class HeaderReader {
 public:
  HeaderReader(std::string_view file, std::string_view what) : file_(file), what_(what) {}

  Result<SafetensorsHeader> Read() {
    RETORT_ASSIGN_OR_RETURN(const std::string_view text, HeaderText());
    RETORT_ASSIGN_OR_RETURN(
        const json::Document doc,
        json::Document::Parse(text, what_ + " (header)", {.max_bytes = kMaxHeader}));
    const json::Value root = doc.root();
    if (!root.is_object()) return Refuse("offset 8", "the header is not a JSON object");
    for (size_t i = 0; i < root.size(); ++i) {
      const std::string_view key = root.key_at(i);
      RETORT_RETURN_IF_ERROR(key == "__metadata__" ? Metadata(root.value_at(i))
                                                   : Entry(key, root.value_at(i)));
    }
    RETORT_RETURN_IF_ERROR(CheckSpans());
    std::sort(header_.entries.begin(), header_.entries.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return std::move(header_);
  }

 private:
  Status Refuse(std::string_view where, std::string_view rule) const {
    std::string message = what_ + ": ";
    return DataLoss(message.append(where).append(": ").append(rule));
  }
  Status RefuseTensor(std::string_view name, std::string_view rule) const {
    return Refuse("tensor \"" + std::string(name) + "\"", rule);
  }

  Result<std::string_view> HeaderText() {
    if (file_.size() < 8) {
      return Refuse("offset 0", "a safetensors file starts with 8 bytes of header length; it has " +
                                    std::to_string(file_.size()) + " bytes");
    }
    uint64_t length = 0;
    std::memcpy(&length, file_.data(), sizeof length);
    if (length > kMaxHeader) {
      return Refuse("offset 0", "header length " + std::to_string(length) +
                                    " is above the limit of " + std::to_string(kMaxHeader));
    }
    if (!RangeFits(8, length, file_.size())) {
      return Refuse("offset 0", "header length " + std::to_string(length) +
                                    " is longer than the file of " + std::to_string(file_.size()) +
                                    " bytes (truncated?)");
    }
    if (length == 0 || file_[8] != '{')
      return Refuse("offset 8", "the header does not start with {");
    header_.data_offset = 8 + length;
    return file_.substr(8, length);
  }

  Status Metadata(const json::Value& value) {
    if (!value.is_object()) return Refuse("__metadata__", "must be an object of strings");
    for (size_t i = 0; i < value.size(); ++i) {
      const std::string key(value.key_at(i));
      if (!value.value_at(i).is_string()) {
        return Refuse("__metadata__", "value of \"" + key + "\" is not a string");
      }
      header_.metadata[key] = value.value_at(i).StringOr("");
    }
    return OkStatus();
  }

  Status Entry(std::string_view name, const json::Value& value) {
    if (name.find('\0') != name.npos) return RefuseTensor(name, "a NUL in its name");
    if (!value.is_object()) return RefuseTensor(name, "its entry is not an object");
    for (size_t i = 0; i < value.size(); ++i) {
      const std::string_view key = value.key_at(i);
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        return RefuseTensor(name, "unknown key \"" + std::string(key) + "\"");
      }
    }
    SafetensorsEntry entry;
    entry.name = name;
    entry.dtype = value["dtype"].StringOr("");
    if (SafetensorsDtypeSize(entry.dtype) == 0) {
      return RefuseTensor(name, "unknown dtype " + value["dtype"].Dump());
    }
    RETORT_RETURN_IF_ERROR(Shape(value["shape"], &entry));
    RETORT_RETURN_IF_ERROR(Span(value["data_offsets"], &entry));
    header_.entries.push_back(std::move(entry));
    return OkStatus();
  }

  Status Shape(const json::Value& value, SafetensorsEntry* entry) const {
    if (!value.is_array()) return RefuseTensor(entry->name, "shape is not an array");
    for (size_t i = 0; i < value.size(); ++i) {
      const Result<int64_t> dim = value[i].AsInt();
      if (!dim.ok() || *dim < 0) {
        return RefuseTensor(entry->name,
                            "dimension " + value[i].Dump() + " is not a whole number >= 0");
      }
      entry->shape.push_back(*dim);
    }
    return OkStatus();
  }

  Status Span(const json::Value& value, SafetensorsEntry* entry) const {
    const Result<uint64_t> begin = value[0].AsUint(), end = value[1].AsUint();
    if (value.size() != 2 || !begin.ok() || !end.ok()) {
      return RefuseTensor(entry->name, "data_offsets must be two whole numbers >= 0");
    }
    entry->begin = *begin;
    entry->end = *end;
    if (entry->end < entry->begin)
      return RefuseTensor(entry->name, "data_offsets end before they begin");
    const uint64_t data_bytes = file_.size() - header_.data_offset;
    if (entry->end > data_bytes) {
      return RefuseTensor(entry->name, "data ends at " + std::to_string(entry->end) +
                                           ", but the file has " + std::to_string(data_bytes) +
                                           " bytes of data (truncated?)");
    }
    int64_t numel = 0;
    uint64_t bytes = 0;
    if (!CheckedNumel(entry->shape, &numel) ||
        !CheckedMul(static_cast<uint64_t>(numel), SafetensorsDtypeSize(entry->dtype), &bytes)) {
      return RefuseTensor(entry->name, "the product of its shape overflows");
    }
    if (bytes != entry->end - entry->begin) {
      return RefuseTensor(entry->name, "dtype and shape need " + std::to_string(bytes) +
                                           " bytes, its offsets span " +
                                           std::to_string(entry->end - entry->begin));
    }
    return OkStatus();
  }

  // Tensors must cover the data without gap or overlap.
  Status CheckSpans() const {
    std::vector<const SafetensorsEntry*> order;
    for (const SafetensorsEntry& entry : header_.entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
      return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
    });
    uint64_t at = 0;
    for (const SafetensorsEntry* entry : order) {
      if (entry->begin != at) {
        return RefuseTensor(entry->name, std::string(entry->begin > at ? "a hole" : "an overlap") +
                                             ": it begins at " + std::to_string(entry->begin) +
                                             ", the tensors before end at " + std::to_string(at));
      }
      at = entry->end;
    }
    const uint64_t data_bytes = file_.size() - header_.data_offset;
    if (at == data_bytes) return OkStatus();
    return Refuse("offset " + std::to_string(header_.data_offset + at),
                  std::to_string(data_bytes - at) + " bytes belong to no tensor");
  }

  std::string_view file_;
  std::string what_;
  SafetensorsHeader header_;
};

}  // namespace

uint64_t SafetensorsDtypeSize(std::string_view dtype) {
  for (const Dtype& known : kDtypes) {
    if (known.name == dtype) return known.bytes;
  }
  return 0;
}

Result<SafetensorsHeader> ParseSafetensors(std::string_view file, std::string_view what) {
  return HeaderReader(file, what).Read();
}

Result<Safetensors> Safetensors::Open(const std::string& path) {
  RETORT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  Safetensors set;
  RETORT_RETURN_IF_ERROR(set.AddShard(std::move(file)));
  RETORT_RETURN_IF_ERROR(set.Sort());
  return set;
}

Status Safetensors::AddShard(MappedFile file) {
  RETORT_ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensors(file.bytes(), file.path()));
  const auto shard = static_cast<uint32_t>(shards_.size());
  data_offsets_.push_back(header.data_offset);
  for (SafetensorsEntry& entry : header.entries) {
    entry.shard = shard;
    entries_.push_back(std::move(entry));
  }
  metadata_.merge(header.metadata);
  shards_.push_back(std::move(file));
  return OkStatus();
}

Status Safetensors::Sort() {
  std::sort(entries_.begin(), entries_.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (size_t i = 1; i < entries_.size(); ++i) {
    const SafetensorsEntry &a = entries_[i - 1], &b = entries_[i];
    if (a.name == b.name) {
      return DataLoss("tensor \"" + a.name + "\" is in two shards: " + shards_[a.shard].path() +
                      " and " + shards_[b.shard].path());
    }
  }
  return OkStatus();
}

// Every tensor of the index must be in the shard that the index names, and the other way round.
Status Safetensors::CheckIndex(const json::Value& weight_map, const std::string& what) const {
  for (size_t i = 0; i < weight_map.size(); ++i) {
    const std::string_view name = weight_map.key_at(i), file = weight_map.value_at(i).StringOr("");
    const SafetensorsEntry* entry = Find(name);
    if (entry == nullptr || BaseName(shards_[entry->shard].path()) != file) {
      return DataLoss(what + ": tensor \"" + std::string(name) + "\" is not in " +
                      std::string(file));
    }
  }
  for (const SafetensorsEntry& entry : entries_) {
    if (!weight_map[entry.name]) {
      return DataLoss(shards_[entry.shard].path() + ": tensor \"" + entry.name +
                      "\" is not in the index (a shard of another model?)");
    }
  }
  return OkStatus();
}

Result<Safetensors> Safetensors::OpenFolder(const std::string& folder) {
  const std::string single = Join(folder, "model.safetensors"), index = single + ".index.json";
  FileSystem& fs = RealFileSystem();
  if (fs.Exists(single)) return Open(single);
  if (!fs.Exists(index)) {
    return NotFound(folder + ": has neither model.safetensors nor model.safetensors.index.json" +
                    (fs.Exists(Join(folder, "pytorch_model.bin"))
                         ? " (pickled .bin weights are never read: save as safetensors)"
                         : ""));
  }
  RETORT_ASSIGN_OR_RETURN(const std::string text, fs.Read(index, kMaxIndex));
  RETORT_ASSIGN_OR_RETURN(const json::Document doc,
                          json::Document::Parse(text, index, {.max_bytes = kMaxIndex}));
  const json::Value weight_map = doc.root()["weight_map"];
  if (!weight_map.is_object()) return DataLoss(index + ": has no object \"weight_map\"");
  std::set<std::string> files;
  for (size_t i = 0; i < weight_map.size(); ++i) {
    const std::string file(weight_map.value_at(i).StringOr(""));
    if (file.empty() || file == "." || file == ".." ||
        file.find_first_of(std::string_view("/\0", 2)) != file.npos) {
      return DataLoss(index + ": tensor \"" + std::string(weight_map.key_at(i)) + "\": shard " +
                      weight_map.value_at(i).Dump() + " is not a plain file name");
    }
    files.insert(file);
  }
  Safetensors set;
  for (const std::string& file : files) {
    Result<MappedFile> mapped = MappedFile::Open(Join(folder, file));
    if (!mapped.ok()) return mapped.status().WithContext(index + ": shard missing");
    RETORT_RETURN_IF_ERROR(set.AddShard(std::move(mapped).value()));
  }
  RETORT_RETURN_IF_ERROR(set.Sort());
  RETORT_RETURN_IF_ERROR(set.CheckIndex(weight_map, index));
  return set;
}

const SafetensorsEntry* Safetensors::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      entries_.begin(), entries_.end(), name,
      [](const SafetensorsEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return it != entries_.end() && it->name == name ? &*it : nullptr;
}

std::string_view Safetensors::bytes(const SafetensorsEntry& entry) const {
  return shards_[entry.shard].bytes().substr(data_offsets_[entry.shard] + entry.begin,
                                             entry.end - entry.begin);
}

std::vector<std::string> Safetensors::files() const {
  std::vector<std::string> paths;
  for (const MappedFile& shard : shards_) paths.push_back(shard.path());
  return paths;
}

}  // namespace retort::io
