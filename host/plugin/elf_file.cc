// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/elf_file.h"

#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

namespace retort::host {
namespace {

// Libraries of plugins export one symbol; a table that claims more than this is damaged.
constexpr uint64_t kMaxSymbols = 1'000'000;
constexpr size_t kMaxNames = ElfSummary::kMaxNames, kMaxNameBytes = 4096;

class ElfReader {
 public:
  ElfReader(std::string_view bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  Result<ElfSummary> Read() {
    RETORT_RETURN_IF_ERROR(CheckHeader());
    RETORT_RETURN_IF_ERROR(ReadSegments());
    RETORT_RETURN_IF_ERROR(ReadDynamic());
    ElfSummary summary;
    RETORT_RETURN_IF_ERROR(ReadNames(&summary));
    RETORT_RETURN_IF_ERROR(ReadSymbols(&summary));
    return summary;
  }

 private:
  // The entries of the dynamic section that matter here, as addresses; 0: absent.
  struct Dynamic {
    uint64_t strings = 0, n_string_bytes = 0, symbols = 0, hash = 0, gnu_hash = 0;
    std::optional<uint64_t> soname, rpath, runpath;  // offsets into strings
    std::vector<uint64_t> needed;
  };

  Status Refuse(const std::string& why) const {
    return InvalidArgument("plugin " + path_ + ": " + why);
  }
  Status Damaged(const char* what) const {
    return Refuse(std::string("the file is cut or damaged: ") + what + " lies outside its " +
                  std::to_string(bytes_.size()) + " bytes; copy or build it again");
  }

  Status CheckHeader() {
    if (bytes_.size() < SELFMAG || std::memcmp(bytes_.data(), ELFMAG, SELFMAG) != 0) {
      return Refuse("not an ELF file, so no shared library; name the built .so");
    }
    if (!Get(0, &header_)) return Damaged("the header");
    if (header_.e_ident[EI_CLASS] != ELFCLASS64 || header_.e_ident[EI_DATA] != ELFDATA2LSB ||
        header_.e_machine != Machine()) {
      return Refuse("built for another machine (ELF machine " + std::to_string(header_.e_machine) +
                    ", expected " + std::to_string(Machine()) + "); build it here");
    }
    if (header_.e_type != ET_DYN) {
      return Refuse("an ELF file, but no shared library (type " + std::to_string(header_.e_type) +
                    "); link it with -shared");
    }
    if (header_.e_phnum > 0 && header_.e_phentsize != sizeof(Elf64_Phdr)) {
      return Damaged("the program header table");
    }
    // Nobody needs the section table to run a library, but a cut file mostly lacks it first.
    if (header_.e_shnum > 0 &&
        !Inside(header_.e_shoff, uint64_t{header_.e_shnum} * header_.e_shentsize)) {
      return Damaged("the section table");
    }
    return OkStatus();
  }

  // The machine that this program runs on.
  static constexpr uint16_t Machine() {
#if defined(__x86_64__)
    return EM_X86_64;
#elif defined(__aarch64__)
    return EM_AARCH64;
#else
#error "unknown machine"
#endif
  }

  bool Inside(uint64_t offset, uint64_t n) const {
    return offset <= bytes_.size() && n <= bytes_.size() - offset;
  }
  template <class T>
  bool Get(uint64_t offset, T* out) const {
    if (!Inside(offset, sizeof(T))) return false;
    std::memcpy(out, bytes_.data() + offset, sizeof(T));
    return true;
  }

  // All segments lie in the file: the system maps them without looking, and dies of it later.
  Status ReadSegments() {
    for (uint16_t i = 0; i < header_.e_phnum; ++i) {
      Elf64_Phdr segment;
      const uint64_t begin = i * sizeof(Elf64_Phdr);
      if (header_.e_phoff > bytes_.size() || !Get(header_.e_phoff + begin, &segment)) {
        return Damaged("a program header");
      }
      if (segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC) continue;
      if (!Inside(segment.p_offset, segment.p_filesz)) return Damaged("a segment");
      if (segment.p_filesz > segment.p_memsz) return Damaged("a segment's memory");
      if (segment.p_type == PT_LOAD) loads_.push_back(segment);
      if (segment.p_type == PT_DYNAMIC) dynamic_segment_ = segment;
    }
    if (loads_.empty() || !dynamic_segment_) {
      return Refuse("an ELF file, but no shared library (nothing to load); link it with -shared");
    }
    return OkStatus();
  }

  // Where in the file the bytes of an address lie, with at least `n` of them.
  std::optional<uint64_t> OffsetOf(uint64_t address, uint64_t n) const {
    for (const Elf64_Phdr& load : loads_) {
      if (address < load.p_vaddr || address - load.p_vaddr > load.p_filesz) continue;
      const uint64_t into = address - load.p_vaddr;
      if (n <= load.p_filesz - into) return load.p_offset + into;
    }
    return {};
  }
  template <class T>
  bool GetAt(uint64_t address, uint64_t index, T* out) const {
    if (index > bytes_.size()) return false;  // so that the product can't overflow
    const uint64_t into = index * sizeof(T);
    if (address > UINT64_MAX - into) return false;
    const auto offset = OffsetOf(address + into, sizeof(T));
    return offset && Get(*offset, out);
  }

  Status ReadDynamic() {
    const uint64_t n = dynamic_segment_->p_filesz / sizeof(Elf64_Dyn);
    for (uint64_t i = 0; i < n; ++i) {
      Elf64_Dyn item;
      if (!Get(dynamic_segment_->p_offset + i * sizeof(Elf64_Dyn), &item)) break;
      const uint64_t value = item.d_un.d_val;
      switch (item.d_tag) {
        case DT_NULL: return OkStatus();
        case DT_NEEDED:
          if (dynamic_.needed.size() == kMaxNames) return Damaged("the list of needed libraries");
          dynamic_.needed.push_back(value);
          break;
        case DT_SONAME: dynamic_.soname = value; break;
        case DT_RPATH: dynamic_.rpath = value; break;
        case DT_RUNPATH: dynamic_.runpath = value; break;
        case DT_STRTAB: dynamic_.strings = value; break;
        case DT_STRSZ: dynamic_.n_string_bytes = value; break;
        case DT_SYMTAB: dynamic_.symbols = value; break;
        case DT_HASH: dynamic_.hash = value; break;
        case DT_GNU_HASH: dynamic_.gnu_hash = value; break;
        default: break;
      }
    }
    return Damaged("the end of the dynamic section");
  }

  Result<std::string> Text(uint64_t at, const char* what) const {
    const auto table = OffsetOf(dynamic_.strings, dynamic_.n_string_bytes);
    if (!table || at >= dynamic_.n_string_bytes) return Damaged(what);
    const std::string_view rest = bytes_.substr(*table + at, dynamic_.n_string_bytes - at);
    const size_t end = rest.find('\0');
    if (end == std::string_view::npos || end > kMaxNameBytes) return Damaged(what);
    return std::string(rest.substr(0, end));
  }

  Status ReadNames(ElfSummary* summary) const {
    for (const uint64_t at : dynamic_.needed) {
      RETORT_ASSIGN_OR_RETURN(std::string name, Text(at, "a needed library's name"));
      summary->needed.push_back(std::move(name));
    }
    if (dynamic_.soname) {
      RETORT_ASSIGN_OR_RETURN(summary->soname, Text(*dynamic_.soname, "its own name"));
    }
    const auto path = dynamic_.runpath ? dynamic_.runpath : dynamic_.rpath;
    if (path) {
      RETORT_ASSIGN_OR_RETURN(summary->search_path, Text(*path, "the path of needed libraries"));
    }
    return OkStatus();
  }

  // Defined symbols are those that a hash table can lead to.
  Result<uint64_t> CountSymbols() const {
    uint32_t words[4] = {};  // GNU: buckets, first hashed symbol, filter words, shift
    if (dynamic_.gnu_hash == 0) {
      if (dynamic_.hash == 0) return uint64_t{0};
      if (!GetAt(dynamic_.hash, 1, &words[0])) return Damaged("the symbols' hash table");
      return uint64_t{words[0]};
    }
    for (uint64_t i = 0; i < 4; ++i) {
      if (!GetAt(dynamic_.gnu_hash, i, &words[i])) return Damaged("the symbols' hash table");
    }
    const uint64_t buckets = 4 + uint64_t{words[2]} * 2, chains = buckets + words[0];
    uint32_t last = 0;
    for (uint64_t i = 0; i < words[0]; ++i) {
      uint32_t bucket = 0;
      if (!GetAt(dynamic_.gnu_hash, buckets + i, &bucket)) return Damaged("a hash bucket");
      last = std::max(last, bucket);
    }
    if (last < words[1]) return uint64_t{words[1]};  // nothing is hashed
    for (uint64_t symbol = last;; ++symbol) {
      uint32_t hash = 0;
      if (!GetAt(dynamic_.gnu_hash, chains + symbol - words[1], &hash)) {
        return Damaged("a hash chain");
      }
      if ((hash & 1) != 0) return symbol + 1;
    }
  }

  Status ReadSymbols(ElfSummary* summary) const {
    RETORT_ASSIGN_OR_RETURN(const uint64_t n, CountSymbols());
    if (n > kMaxSymbols) return Damaged("the symbol table");
    for (uint64_t i = 0; i < n && summary->exports.size() < kMaxNames; ++i) {
      Elf64_Sym symbol;
      if (!GetAt(dynamic_.symbols, i, &symbol)) return Damaged("the symbol table");
      const unsigned bind = ELF64_ST_BIND(symbol.st_info), type = ELF64_ST_TYPE(symbol.st_info);
      const bool exported = symbol.st_shndx != SHN_UNDEF && bind != STB_LOCAL &&
                            (type == STT_FUNC || type == STT_OBJECT || type == STT_GNU_IFUNC);
      if (!exported) continue;
      RETORT_ASSIGN_OR_RETURN(std::string name, Text(symbol.st_name, "a symbol's name"));
      summary->exports.push_back(std::move(name));
    }
    return OkStatus();
  }

  std::string_view bytes_;
  const std::string& path_;
  Elf64_Ehdr header_{};
  std::vector<Elf64_Phdr> loads_;
  std::optional<Elf64_Phdr> dynamic_segment_;
  Dynamic dynamic_;
};

}  // namespace

Result<ElfSummary> ReadElf(std::string_view bytes, const std::string& path) {
  return ElfReader(bytes, path).Read();
}

}  // namespace retort::host
