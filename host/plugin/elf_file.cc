// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/elf_file.h"

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <optional>

namespace retort::host {
namespace {

class ElfReader {
 public:
  ElfReader(std::string_view bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  Result<ElfSummary> Read() {
    RETORT_RETURN_IF_ERROR(CheckHeader());
    ElfSummary summary;
    summary.has_sections = header_.e_shnum > 0;
    for (uint16_t i = 0; i < header_.e_shnum; ++i) {
      Elf64_Shdr section;
      if (!Section(i, &section)) return Damaged("a section header");
      if (section.sh_type == SHT_DYNSYM) RETORT_RETURN_IF_ERROR(ReadSymbols(section, &summary));
      if (section.sh_type == SHT_DYNAMIC) RETORT_RETURN_IF_ERROR(ReadDynamic(section, &summary));
    }
    return summary;
  }

 private:
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
    if (header_.e_shnum > 0 && header_.e_shentsize != sizeof(Elf64_Shdr)) {
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

  template <class T>
  bool Get(uint64_t offset, T* out) const {
    if (offset > bytes_.size() || sizeof(T) > bytes_.size() - offset) return false;
    std::memcpy(out, bytes_.data() + offset, sizeof(T));
    return true;
  }

  bool Section(uint64_t index, Elf64_Shdr* out) const {
    const uint64_t begin = index * sizeof(Elf64_Shdr);  // index is at most 2^16
    return header_.e_shoff <= bytes_.size() && Get(header_.e_shoff + begin, out);
  }

  std::optional<std::string_view> Text(const Elf64_Shdr& table, uint64_t at) const {
    if (table.sh_offset > bytes_.size() || at > bytes_.size() - table.sh_offset) return {};
    const std::string_view rest = bytes_.substr(table.sh_offset + at);
    const size_t end = rest.find('\0');
    if (end == std::string_view::npos) return {};
    return rest.substr(0, end);
  }

  Status ReadSymbols(const Elf64_Shdr& section, ElfSummary* summary) const {
    Elf64_Shdr names;
    if (!Section(section.sh_link, &names)) return Damaged("the symbol names");
    for (uint64_t at = 0; at < section.sh_size; at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      if (!Get(section.sh_offset + at, &symbol)) return Damaged("the symbol table");
      const unsigned bind = ELF64_ST_BIND(symbol.st_info), type = ELF64_ST_TYPE(symbol.st_info);
      const bool exported = symbol.st_shndx != SHN_UNDEF && bind != STB_LOCAL &&
                            (type == STT_FUNC || type == STT_OBJECT || type == STT_GNU_IFUNC);
      if (!exported) continue;
      const auto name = Text(names, symbol.st_name);
      if (!name) return Damaged("a symbol's name");
      summary->exports.emplace_back(*name);
    }
    return OkStatus();
  }

  Status ReadDynamic(const Elf64_Shdr& section, ElfSummary* summary) const {
    Elf64_Shdr names;
    if (!Section(section.sh_link, &names)) return Damaged("the names of needed libraries");
    for (uint64_t at = 0; at < section.sh_size; at += sizeof(Elf64_Dyn)) {
      Elf64_Dyn item;
      if (!Get(section.sh_offset + at, &item)) return Damaged("the dynamic section");
      if (item.d_tag == DT_NULL) break;
      if (item.d_tag != DT_NEEDED) continue;
      const auto name = Text(names, item.d_un.d_val);
      if (!name) return Damaged("a needed library's name");
      summary->needed.emplace_back(*name);
    }
    return OkStatus();
  }

  std::string_view bytes_;
  const std::string& path_;
  Elf64_Ehdr header_{};
};

}  // namespace

Result<ElfSummary> ReadElf(std::string_view bytes, const std::string& path) {
  return ElfReader(bytes, path).Read();
}

}  // namespace retort::host
