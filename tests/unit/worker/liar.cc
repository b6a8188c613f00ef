// A worker that lies: says it is ready, creates anything, and answers every call as its name says.
// Linked to host_worker's frames, so that what is wrong is only what is meant to be.
// SPDX-License-Identifier: Apache-2.0
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "host/worker/frame.h"
#include "host/worker/messages.h"

namespace retort::host {
namespace {

void SendRaw(const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = write(kWorkerSocketFd, bytes.data() + sent, bytes.size() - sent);
    if (n <= 0) _exit(0);
    sent += static_cast<size_t>(n);
  }
}

std::string Bytes(FrameWriter& fields, FrameType type, uint64_t number) {
  std::string bytes;
  for (const iovec& piece : fields.Seal(type, number)) {
    bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
  }
  return bytes;
}

Inbox::Frame Receive(Inbox& inbox) {
  Inbox::Frame frame;
  for (;;) {
    const Result<bool> next = inbox.Next(&frame);
    if (!next.ok()) _exit(1);
    if (*next) return frame;
    const Result<std::span<char>> room = inbox.Room();
    const ssize_t n = read(kWorkerSocketFd, room->data(), room->size());
    if (n <= 0) _exit(0);
    inbox.Arrived(static_cast<uint64_t>(n));
  }
}

// A reply to score of one sample, and then wrong in one way.
void Lie(const std::string& how, uint64_t number) {
  FrameWriter out;
  out.Int(0);
  out.Text(std::string_view(""));
  const double scores[] = {1, 2};
  const uint8_t statuses[] = {0, 0};
  const uint64_t n = how == "two_scores" ? 2 : 1;
  out.Bytes(scores, n * sizeof(double));
  out.Bytes(statuses, n);
  if (how == "many_items") {
    out.Uint(uint64_t{1} << 60);
  } else if (how == "foreign_index") {
    out.Uint(1);
    PutInfo(7, {"{}", 2}, out);
  } else if (how == "foreign_item") {
    out.Uint(1);
    PutRecord({}, out);
  } else {
    out.Uint(0);
  }
  if (how == "more_behind") out.Uint(1);
  std::string bytes =
      Bytes(out, how == "foreign_type" ? static_cast<FrameType>(55) : FrameType::kReply,
            how == "old_number" ? number - 1 : number);
  FrameHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (how == "bad_magic") header.magic = 1;
  if (how == "huge") header.size = uint64_t{1} << 62;
  if (how == "odd_size") header.size = 13;
  std::memcpy(bytes.data(), &header, sizeof header);
  SendRaw(bytes);
  if (how == "cut") _exit(0);
}

void Serve(const std::string& how) {
  FrameWriter ready;
  ready.Uint(how == "other_protocol" ? kWorkerProtocol + 1 : kWorkerProtocol);
  SendRaw(Bytes(ready, FrameType::kReady, 0));
  Inbox inbox;
  for (;;) {
    const Inbox::Frame frame = Receive(inbox);
    if (frame.type == FrameType::kCreate && how != "no_facts") {
      FrameWriter made;
      made.Int(0);
      made.Text(std::string_view(""));
      PutFacts({}, made);
      SendRaw(Bytes(made, FrameType::kReply, frame.number));
    } else if (how == "cut") {
      SendRaw(std::string("RtW1\0\0\0", 7));
      _exit(0);
    } else {
      Lie(how, frame.number);
    }
  }
}

}  // namespace
}  // namespace retort::host

int main(int, char**) {
  const char* how = std::getenv("RETORT_TEST_LIE");
  retort::host::Serve(how == nullptr ? "" : how);
}
