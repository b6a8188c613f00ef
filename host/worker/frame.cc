// SPDX-License-Identifier: Apache-2.0
#include "host/worker/frame.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>

namespace retort::host {
namespace {

constexpr uint64_t kAbsent = UINT64_MAX;
// Below, copying costs less than another piece of the gathering write.
constexpr uint64_t kBorrowFrom = 1024;
constexpr uint64_t kFirstRoom = uint64_t{64} << 10;
// A larger frame gets its memory as it arrives, doubling.
constexpr uint64_t kTrustedBytes = uint64_t{16} << 20;
// Kept between frames; what a larger one took is given back.
constexpr uint64_t kKeptBytes = uint64_t{32} << 20;
constexpr char kZeros[8] = {};

uint64_t Padding(uint64_t n) { return (8 - n % 8) % 8; }

}  // namespace

Status CheckHeader(const FrameHeader& header) {
  if (header.magic != kFrameMagic) return DataLoss("a frame does not begin as frames do");
  if (header.size > kMaxFrameBytes) {
    return DataLoss("a frame says that it has " + std::to_string(header.size) + " bytes, at most " +
                    std::to_string(kMaxFrameBytes) + " are allowed");
  }
  if (header.size % 8 != 0) return DataLoss("a frame's size is no multiple of 8");
  return OkStatus();
}

void FrameWriter::Text(std::string_view text) {
  Uint(text.size());
  Bytes(text.data(), text.size());
}

void FrameWriter::Text(retort_str text) {
  if (text.ptr == nullptr) return Uint(kAbsent);
  Text(std::string_view(text.ptr, text.len));
}

void FrameWriter::Bytes(const void* data, uint64_t n) {
  if (n < kBorrowFrom || copies_) {
    if (n > 0) Raw(data, n);
  } else {
    borrowed_.push_back({own_.size(), data, n});
    borrowed_bytes_ += n;
  }
  Raw(kZeros, Padding(n));
}

void FrameWriter::Fields(const FrameWriter& other) {
  assert(other.borrowed_.empty());
  if (!other.own_.empty()) Bytes(other.own_.data(), other.own_.size());
}

void FrameWriter::Clear() {
  own_.clear();
  borrowed_.clear();
  borrowed_bytes_ = 0;
}

std::vector<iovec> FrameWriter::Seal(FrameType type, uint64_t number) {
  header_ = {kFrameMagic, static_cast<uint32_t>(type), number, size()};
  std::vector<iovec> pieces;
  pieces.reserve(2 * borrowed_.size() + 2);
  pieces.push_back({&header_, sizeof header_});
  uint64_t begin = 0;
  for (const Piece& piece : borrowed_) {
    if (piece.own_end > begin) pieces.push_back({own_.data() + begin, piece.own_end - begin});
    begin = piece.own_end;
    pieces.push_back({const_cast<void*>(piece.data), piece.n});
  }
  if (own_.size() > begin) pieces.push_back({own_.data() + begin, own_.size() - begin});
  return pieces;
}

std::string FrameWriter::Flatten() const {
  std::string out;
  out.reserve(size());
  uint64_t begin = 0;
  for (const Piece& piece : borrowed_) {
    out.append(own_, begin, piece.own_end - begin);
    out.append(static_cast<const char*>(piece.data), piece.n);
    begin = piece.own_end;
  }
  out.append(own_, begin);
  return out;
}

void FrameReader::Copy(void* to, uint64_t n) {
  if (!ok_ || n > remaining()) return Fail();
  std::memcpy(to, bytes_.data() + pos_, n);
  pos_ += n;
}

uint32_t FrameReader::Uint32() {
  const uint64_t value = Uint();
  if (value > UINT32_MAX) Fail();
  return ok_ ? static_cast<uint32_t>(value) : 0;
}

int32_t FrameReader::Int32() {
  const int64_t value = Int();
  if (value < INT32_MIN || value > INT32_MAX) Fail();
  return ok_ ? static_cast<int32_t>(value) : 0;
}

const char* FrameReader::Bytes(uint64_t n) {
  if (!ok_ || n > remaining() || Padding(n) > remaining() - n) return Fail(), nullptr;
  const char* at = bytes_.data() + pos_;
  pos_ += n + Padding(n);
  return at;
}

retort_str FrameReader::Str() {
  const uint64_t n = Uint();
  if (!ok_ || n == kAbsent) return {};
  const char* at = Bytes(n);
  return at == nullptr ? retort_str{} : retort_str{at, n};
}

std::string_view FrameReader::Text() {
  const retort_str text = Str();
  return text.ptr == nullptr ? std::string_view() : std::string_view(text.ptr, text.len);
}

uint64_t FrameReader::Count(uint64_t each) {
  const uint64_t n = Uint();
  if (n > remaining() / each) Fail();
  return ok_ ? n : 0;
}

Inbox::~Inbox() { std::free(data_); }

Status Inbox::Reserve(uint64_t bytes) {
  if (bytes <= capacity_) return OkStatus();
  void* grown = std::realloc(data_, bytes);
  if (grown == nullptr) return ResourceExhausted("no memory for a frame");
  data_ = static_cast<char*>(grown);
  capacity_ = bytes;
  return OkStatus();
}

Result<std::span<char>> Inbox::Room() {
  if (begin_ > 0) {  // the next frame to the front, where fields are aligned
    std::memmove(data_, data_ + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    if (end_ == 0 && capacity_ > kKeptBytes) {
      std::free(data_);
      data_ = nullptr;
      capacity_ = 0;
    }
  }
  uint64_t wanted = kFirstRoom;
  if (end_ >= sizeof(FrameHeader)) {
    FrameHeader header;
    std::memcpy(&header, data_, sizeof header);
    RETORT_RETURN_IF_ERROR(CheckHeader(header));
    wanted = std::min(sizeof header + header.size, std::max(kTrustedBytes, 2 * end_));
  }
  RETORT_RETURN_IF_ERROR(Reserve(std::max(wanted, end_ + 1)));
  return std::span<char>(data_ + end_, capacity_ - end_);
}

Result<bool> Inbox::Next(Frame* frame) {
  const uint64_t have = end_ - begin_;
  if (have < sizeof(FrameHeader)) return false;
  FrameHeader header;
  std::memcpy(&header, data_ + begin_, sizeof header);
  RETORT_RETURN_IF_ERROR(CheckHeader(header));
  if (have - sizeof header < header.size) return false;
  *frame = {static_cast<FrameType>(header.type), header.number,
            std::string_view(data_ + begin_ + sizeof header, header.size)};
  begin_ += sizeof header + header.size;
  return true;
}

}  // namespace retort::host
