// The frames between the host and a worker: a fixed header, then fields. Both run on one machine
// and are built from one tree, so integers are stored as they lie in memory, all of them 8 bytes
// wide or padded to 8. What comes from the other side is not trusted: a reader checks each length
// against the bytes that remain before it uses or allocates anything.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "retort/abi/types.h"

namespace retort::host {

// Grows with any change of a frame: host and worker of different builds refuse each other.
inline constexpr uint32_t kWorkerProtocol = 1;

// Descriptors that a worker is started with, beside 0 to 2.
inline constexpr int kWorkerSocketFd = 3;
inline constexpr int kWorkerCancelFd = 4;  // a page whose first int32 becomes 1 to cancel a call

inline constexpr uint64_t kMaxFrameBytes = uint64_t{1} << 30;

enum class FrameType : uint32_t {
  // To the worker; each is answered by one kReply with its number.
  kDescribe = 1,
  kCreate = 2,
  kScore = 3,
  kClasses = 4,
  kObserve = 5,
  kEndPass = 6,
  kJudge = 7,
  kSave = 8,   // of a filter or a source
  kMerge = 9,  // of a filter; of a source: load
  kNext = 10,
  kSubmit = 11,
  kPoll = 12,
  kCancelRequest = 13,
  kDestroy = 14,  // then the worker ends
  // To the host.
  kReady = 100,  // once, when the worker has started
  kReply = 101,
  kLog = 102,  // from any thread of the plugin, during a call or between two
  kProgress = 103,
};

struct FrameHeader {
  uint32_t magic;
  uint32_t type;
  uint64_t number;  // of the request
  uint64_t size;    // bytes after the header, a multiple of 8
};
inline constexpr uint32_t kFrameMagic = 0x31577452;  // "RtW1"

// The header as a status: magic, a size within the limit and a multiple of 8.
Status CheckHeader(const FrameHeader& header);

// Collects the fields of one frame. Long texts are borrowed, not copied: they must live until the
// frame was sent.
class FrameWriter {
 public:
  void Uint(uint64_t value) { Raw(&value, sizeof value); }
  void Int(int64_t value) { Raw(&value, sizeof value); }
  void Double(double value) { Raw(&value, sizeof value); }
  void Text(std::string_view text);  // length and bytes
  void Text(retort_str text);        // likewise; remembers an absent one
  // Bytes alone, padded to 8; their count travels elsewhere.
  void Bytes(const void* data, uint64_t n);
  void Raw(const void* data, uint64_t n) { own_.append(static_cast<const char*>(data), n); }
  // All fields of another one that copies all; borrowed.
  void Fields(const FrameWriter& other);
  // From here on, long texts are copied too: for fields that outlive what they were made of.
  void CopyAll() { copies_ = true; }

  uint64_t size() const { return own_.size() + borrowed_bytes_; }  // without the header
  void Clear();
  // The frame's pieces, header first; valid until the next change of this object.
  std::vector<iovec> Seal(FrameType type, uint64_t number);
  // The fields in one piece: for frames that are kept.
  std::string Flatten() const;

 private:
  struct Piece {
    uint64_t own_end;  // of own_, then come the borrowed bytes
    const void* data;
    uint64_t n;
  };
  std::string own_;
  std::vector<Piece> borrowed_;
  uint64_t borrowed_bytes_ = 0;
  bool copies_ = false;
  FrameHeader header_{};
};

// Reads the fields of one frame; `bytes` must outlive what it gives out and begin at a multiple of
// 8. After the first field that does not fit, everything reads as zero and ok() is false.
class FrameReader {
 public:
  explicit FrameReader(std::string_view bytes) : bytes_(bytes) {}
  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && pos_ == bytes_.size(); }
  uint64_t remaining() const { return bytes_.size() - pos_; }

  uint64_t Uint() { return Fixed<uint64_t>(); }
  int64_t Int() { return Fixed<int64_t>(); }
  double Double() { return Fixed<double>(); }
  uint32_t Uint32();  // fails above 2^32 - 1
  int32_t Int32();
  retort_str Str();  // borrowed; absent stays absent
  std::string_view Text();
  // A number of things of at least `each` bytes that follow in this frame.
  uint64_t Count(uint64_t each);
  // n bytes and their padding; NULL: they are not there.
  const char* Bytes(uint64_t n);
  template <class T>
  std::span<const T> Array(uint64_t n) {
    if (n > remaining() / sizeof(T)) return Fail(), std::span<const T>();
    return {reinterpret_cast<const T*>(Bytes(n * sizeof(T))), ok_ ? n : 0};
  }
  void Fail() { ok_ = false; }

 private:
  template <class T>
  T Fixed() {
    T value{};
    Copy(&value, sizeof value);
    return value;
  }
  void Copy(void* to, uint64_t n);

  std::string_view bytes_;
  uint64_t pos_ = 0;
  bool ok_ = true;
};

// Bytes as they arrive, cut into frames. Grows with what came, never with what was announced.
class Inbox {
 public:
  Inbox() = default;
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  ~Inbox();

  struct Frame {
    FrameType type{};
    uint64_t number = 0;
    std::string_view fields;  // valid until the next call of Room
  };
  // Room for at least one more byte, as much as is sensible; RESOURCE_EXHAUSTED: no memory.
  Result<std::span<char>> Room();
  void Arrived(uint64_t n) { end_ += n; }
  // Takes the next frame: true, or false when more bytes are needed. DATA_LOSS: not a frame.
  Result<bool> Next(Frame* frame);

 private:
  Status Reserve(uint64_t bytes);
  char* data_ = nullptr;
  uint64_t capacity_ = 0, begin_ = 0, end_ = 0;
};

}  // namespace retort::host
