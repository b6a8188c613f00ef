// Builds GGUF files byte by byte, good or bad, for tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace retort::io {

template <class T>
std::string Raw(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}
inline std::string Str(std::string_view text) {
  return Raw(uint64_t{text.size()}) + std::string(text);
}

// Parts may be changed before Bytes(); counts follow the parts unless set.
struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  int64_t n_tensors = -1, n_kvs = -1;
  uint64_t alignment = 32;
  std::vector<std::string> kvs, tensors;  // encoded
  std::string data;

  GgufBytes& Kv(std::string_view key, uint32_t type, const std::string& value) {
    kvs.push_back(Str(key) + Raw(type) + value);
    return *this;
  }
  GgufBytes& U32(std::string_view key, uint32_t v) { return Kv(key, 4, Raw(v)); }
  GgufBytes& F32(std::string_view key, float v) { return Kv(key, 6, Raw(v)); }
  GgufBytes& Bool(std::string_view key, bool v) { return Kv(key, 7, std::string(1, v ? 1 : 0)); }
  GgufBytes& String(std::string_view key, std::string_view v) { return Kv(key, 8, Str(v)); }
  GgufBytes& Strings(std::string_view key, const std::vector<std::string>& v) {
    std::string out = Raw(uint32_t{8}) + Raw(uint64_t{v.size()});
    for (const std::string& s : v) out += Str(s);
    return Kv(key, 9, out);
  }
  GgufBytes& Ints(std::string_view key, const std::vector<int32_t>& v) {
    std::string out = Raw(uint32_t{5}) + Raw(uint64_t{v.size()});
    for (int32_t x : v) out += Raw(x);
    return Kv(key, 9, out);
  }
  // `dims` as in the file: fastest first.
  GgufBytes& Info(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                  uint64_t offset) {
    std::string out = Str(name) + Raw(static_cast<uint32_t>(dims.size()));
    for (uint64_t d : dims) out += Raw(d);
    tensors.push_back(out + Raw(type) + Raw(offset));
    return *this;
  }
  // An F32 tensor with its data, laid behind the last one.
  GgufBytes& Floats(std::string_view name, const std::vector<uint64_t>& dims,
                    const std::vector<float>& values) {
    Info(name, dims, 0, data.size());
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  std::string Bytes() const {
    std::string out = magic + Raw(version);
    out += Raw(n_tensors < 0 ? uint64_t{tensors.size()} : static_cast<uint64_t>(n_tensors));
    out += Raw(n_kvs < 0 ? uint64_t{kvs.size()} : static_cast<uint64_t>(n_kvs));
    for (const std::string& kv : kvs) out += kv;
    for (const std::string& tensor : tensors) out += tensor;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

}  // namespace retort::io
