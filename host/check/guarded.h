// Memory that notices what a plugin does beyond its bounds: a struct or a text that ends exactly
// at a page nobody may touch (an access there is a SIGSEGV, which fails the rule), and arrays
// between red zones that are looked at afterwards.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "retort/abi/types.h"

namespace retort::host::check {

// `size` bytes between two PROT_NONE pages, ending exactly at the second. Throws Error when the
// system gives no memory.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t size);
  explicit GuardedBytes(std::string_view text) : GuardedBytes(text.size()) {
    if (!text.empty()) std::memcpy(data_, text.data(), text.size());
  }
  GuardedBytes(GuardedBytes&& other) noexcept;
  GuardedBytes& operator=(GuardedBytes&& other) noexcept;
  ~GuardedBytes();

  char* data() { return data_; }
  const char* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view view() const { return {data_, size_}; }
  retort_str str() const { return {data_, size_}; }
  // From now on a write is a SIGSEGV too.
  void MakeReadOnly();

 private:
  char* map_ = nullptr;
  size_t map_size_ = 0;
  char* data_ = nullptr;
  size_t size_ = 0;
};

// How large the host says that a struct is.
enum class Growth : uint8_t {
  kExact,  // the size of version 1.0
  kGrown,  // 64 bytes more, filled with 0xA5: a later host's new members
};
inline constexpr size_t kGrowthBytes = 64;
inline constexpr unsigned char kGrowthByte = 0xA5;

// A copy of `value` that ends at the guard page, struct_size set to match `growth`.
// `first_size`: its size in version 1.0.
template <class T>
class GuardedStruct {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit GuardedStruct(const T& value, Growth growth = Growth::kExact,
                         size_t first_size = sizeof(T))
      : bytes_(first_size + (growth == Growth::kGrown ? kGrowthBytes : 0)) {
    std::memset(bytes_.data(), kGrowthByte, bytes_.size());
    std::memcpy(bytes_.data(), &value, first_size);
    get()->struct_size = static_cast<uint32_t>(bytes_.size());
    before_ = bytes_.view();
  }
  T* get() { return reinterpret_cast<T*>(bytes_.data()); }
  // The struct is an input: is every byte as it was?
  bool untouched() const { return bytes_.view() == before_; }
  // Takes the present bytes as those that must stay.
  void Remember() { before_ = bytes_.view(); }

 private:
  GuardedBytes bytes_;
  std::string before_;
};

// An array of structs walked by a stride larger than the struct, the gaps filled with 0xA5; the
// last element ends at the guard page, its gap included.
template <class T>
class StridedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit StridedArray(std::span<const T> values, size_t extra = kGrowthBytes)
      : stride_(sizeof(T) + extra), bytes_(values.size() * stride_) {
    if (bytes_.size() != 0) std::memset(bytes_.data(), kGrowthByte, bytes_.size());
    for (size_t i = 0; i < values.size(); ++i) {
      std::memcpy(bytes_.data() + i * stride_, &values[i], sizeof(T));
    }
    before_ = bytes_.view();
  }
  const T* get() const { return reinterpret_cast<const T*>(bytes_.data()); }
  uint32_t stride() const { return static_cast<uint32_t>(stride_); }
  bool untouched() const { return bytes_.view() == before_; }

 private:
  size_t stride_;
  GuardedBytes bytes_;
  std::string before_;
};

inline constexpr size_t kRedZoneBytes = 256;
inline constexpr unsigned char kRedZoneByte = 0xC3;

// `size` bytes at a multiple of 64 between red zones. All bytes start as kRedZoneByte.
class ZonedBytes {
 public:
  explicit ZonedBytes(size_t size);
  ZonedBytes(ZonedBytes&&) noexcept = default;
  ZonedBytes& operator=(ZonedBytes&&) noexcept = default;
  char* data() { return data_; }
  const char* data() const { return data_; }
  size_t size() const { return size_; }
  // Are both red zones as they were?
  bool intact() const;
  // "" or where the first changed byte of a red zone is: "byte 40 after the end of scores".
  std::string Problem(std::string_view name) const;

 private:
  std::vector<char> all_;
  char* data_;
  size_t size_;
};

// n values between red zones.
template <class T>
class ZonedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  ZonedArray(size_t n, const T& fill) : bytes_(n * sizeof(T)), n_(n) {
    for (T& value : values()) value = fill;
  }
  explicit ZonedArray(std::span<const T> from) : bytes_(from.size_bytes()), n_(from.size()) {
    if (n_ != 0) std::memcpy(bytes_.data(), from.data(), from.size_bytes());
  }
  T* data() { return reinterpret_cast<T*>(bytes_.data()); }
  std::span<T> values() { return {data(), n_}; }
  std::span<const T> values() const { return {reinterpret_cast<const T*>(bytes_.data()), n_}; }
  T& operator[](size_t i) { return data()[i]; }
  size_t size() const { return n_; }
  bool intact() const { return bytes_.intact(); }
  std::string Problem(std::string_view name) const { return bytes_.Problem(name); }

 private:
  ZonedBytes bytes_;
  size_t n_;
};

}  // namespace retort::host::check
