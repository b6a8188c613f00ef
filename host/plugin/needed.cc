// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/needed.h"

#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/io/filesystem.h"

namespace retort::host {
namespace {

constexpr const char* kCacheFile = "/etc/ld.so.cache";
constexpr std::string_view kCacheMagic = "glibc-ld.so.cache1.1";

#if defined(__x86_64__)
#define RETORT_TRIPLE "x86_64-linux-gnu"
constexpr uint32_t kCacheFlags = 0x0303;  // glibc 2, x86-64
#elif defined(__aarch64__)
#define RETORT_TRIPLE "aarch64-linux-gnu"
constexpr uint32_t kCacheFlags = 0x0a03;
#endif

constexpr std::array kFolders = {
    "/lib/" RETORT_TRIPLE, "/usr/lib/" RETORT_TRIPLE, "/lib64", "/usr/lib64", "/lib", "/usr/lib"};

bool IsLibTorch(std::string_view needed) {
  return needed.starts_with("libtorch") || needed.starts_with("libc10");
}

// ldconfig's index as glibc since 2.32 writes it: a header, entries, texts; offsets from its start.
struct CacheHeader {
  char magic[20];
  uint32_t n_entries, n_text_bytes;
  uint32_t unused[5];
};
struct CacheEntry {
  uint32_t flags, name, path, os_version;
  uint64_t hardware;  // not 0: a build for some processors only
};

std::string_view TextAt(std::string_view bytes, uint32_t at) {
  if (at >= bytes.size()) return {};
  const std::string_view rest = bytes.substr(at);
  const size_t end = rest.find('\0');
  return end == std::string_view::npos ? std::string_view() : rest.substr(0, end);
}

std::string FindInCache(const std::string& name) {
  const Result<io::MappedFile> cache = io::MappedFile::Open(kCacheFile);
  if (!cache.ok()) return "";
  const std::string_view bytes = cache->bytes();
  CacheHeader header;
  if (bytes.size() < sizeof(header) || !bytes.starts_with(kCacheMagic)) return "";
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.n_entries > (bytes.size() - sizeof(header)) / sizeof(CacheEntry)) return "";
  for (uint32_t i = 0; i < header.n_entries; ++i) {
    CacheEntry entry;
    std::memcpy(&entry, bytes.data() + sizeof(header) + i * sizeof(entry), sizeof(entry));
    if (entry.flags != kCacheFlags || entry.hardware != 0) continue;
    const std::string_view path = TextAt(bytes, entry.path);
    if (TextAt(bytes, entry.name) == name && path.starts_with('/')) return std::string(path);
  }
  return "";
}

// Whether a library of that name is in the process, so that the system's loader would take it.
bool IsLoaded(const std::string& name) {
  return dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD) != nullptr;  // the count stays up: no harm
}

Status LoadOne(const std::string& name, const ElfSummary& elf, const std::string& path) {
  const std::string plugin = "plugin " + path + ": ";
  if (IsLibTorch(name)) {
    return InvalidArgument(plugin + "is linked against " + name +
                           "; plugins get plain tensors and must not bring LibTorch");
  }
  if (name.find('/') != std::string::npos) {
    return InvalidArgument(plugin + "needs the library " + name + " by path; link it by its name " +
                           "(give it a soname), or link it statically into the plugin");
  }
  if (IsLoaded(name)) return OkStatus();
  const std::string place = FindSystemLibrary(name);
  if (place.empty()) {
    const std::string where =
        elf.search_path.empty()
            ? ""
            : " (the folders it names itself, \"" + elf.search_path + "\", are not looked into)";
    return InvalidArgument(plugin + "needs the library " + name + ", which this system doesn't " +
                           "have" + where + "; install it for all programs (ldconfig), or link " +
                           "it statically into the plugin");
  }
  if (dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) == nullptr) {
    const char* text = dlerror();
    return InvalidArgument(plugin + "needs the library " + name +
                           ", which can't be loaded: " + (text != nullptr ? text : place));
  }
  return OkStatus();
}

}  // namespace

std::string FindSystemLibrary(const std::string& name) {
  if (std::string path = FindInCache(name); !path.empty()) return path;
  for (const char* folder : kFolders) {
    std::string path = io::Join(folder, name);
    if (io::RealFileSystem().Exists(path)) return path;
  }
  return "";
}

Status LoadNeeded(const ElfSummary& elf, const std::string& path) {
  for (const std::string& name : elf.needed) {
    RETORT_RETURN_IF_ERROR(LoadOne(name, elf, path));
  }
  return OkStatus();
}

}  // namespace retort::host
