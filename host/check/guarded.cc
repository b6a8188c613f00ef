// SPDX-License-Identifier: Apache-2.0
#include "host/check/guarded.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/base/status.h"

namespace retort::host::check {
namespace {

constexpr size_t kAlignment = 64;

size_t PageSize() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

GuardedBytes::GuardedBytes(size_t size) : size_(size) {
  const size_t page = PageSize();
  const size_t middle = (size + page - 1) / page * page;
  map_size_ = middle + 2 * page;
  void* map = mmap(nullptr, map_size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) throw Error(ResourceExhausted("no memory for guard pages"));
  map_ = static_cast<char*>(map);
  if (middle > 0 && mprotect(map_ + page, middle, PROT_READ | PROT_WRITE) != 0) {
    munmap(map_, map_size_);
    throw Error(ResourceExhausted("no memory for guard pages"));
  }
  data_ = map_ + page + middle - size;
}

GuardedBytes::GuardedBytes(GuardedBytes&& other) noexcept
    : map_(std::exchange(other.map_, nullptr)),
      map_size_(other.map_size_),
      data_(other.data_),
      size_(other.size_) {}

GuardedBytes& GuardedBytes::operator=(GuardedBytes&& other) noexcept {
  std::swap(map_, other.map_);
  std::swap(map_size_, other.map_size_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

GuardedBytes::~GuardedBytes() {
  if (map_ != nullptr) munmap(map_, map_size_);
}

void GuardedBytes::MakeReadOnly() {
  const size_t page = PageSize();
  if (map_size_ > 2 * page) mprotect(map_ + page, map_size_ - 2 * page, PROT_READ);
}

ZonedBytes::ZonedBytes(size_t size)
    : all_(size + 2 * kRedZoneBytes + kAlignment, static_cast<char>(kRedZoneByte)), size_(size) {
  const auto start = reinterpret_cast<uintptr_t>(all_.data()) + kRedZoneBytes;
  data_ = reinterpret_cast<char*>((start + kAlignment - 1) / kAlignment * kAlignment);
}

bool ZonedBytes::intact() const { return Problem("").empty(); }

std::string ZonedBytes::Problem(std::string_view name) const {
  const auto changed = [](char c) { return c != static_cast<char>(kRedZoneByte); };
  const char* begin = all_.data();
  const char* end = begin + all_.size();
  if (const char* at = std::find_if(begin, static_cast<const char*>(data_), changed); at != data_) {
    return "byte " + std::to_string(data_ - at) + " before the start of " + std::string(name);
  }
  if (const char* at = std::find_if(static_cast<const char*>(data_) + size_, end, changed);
      at != end) {
    return "byte " + std::to_string(at - data_ - static_cast<ptrdiff_t>(size_)) +
           " after the end of " + std::string(name);
  }
  return "";
}

}  // namespace retort::host::check
