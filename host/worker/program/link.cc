// SPDX-License-Identifier: Apache-2.0
#include "host/worker/program/link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace retort::host {

bool HostLink::Receive(Inbox::Frame* frame) {
  for (;;) {
    const Result<bool> next = inbox_.Next(frame);
    if (!next.ok()) return false;
    if (*next) return true;
    const Result<std::span<char>> room = inbox_.Room();
    if (!room.ok()) return false;
    const ssize_t n = recv(fd_, room->data(), room->size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    inbox_.Arrived(static_cast<uint64_t>(n));
  }
}

void HostLink::Send(FrameType type, uint64_t number, FrameWriter& fields) {
  const std::lock_guard lock(sending_);
  std::vector<iovec> pieces = fields.Seal(type, number);
  size_t next = 0;
  while (next < pieces.size()) {
    msghdr message{};
    message.msg_iov = &pieces[next];
    message.msg_iovlen = std::min<size_t>(pieces.size() - next, IOV_MAX);
    const ssize_t sent = sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) _exit(0);
    auto left = static_cast<size_t>(sent);
    while (left > 0) {
      iovec& piece = pieces[next];
      const size_t n = std::min(left, piece.iov_len);
      piece.iov_base = static_cast<char*>(piece.iov_base) + n;
      piece.iov_len -= n;
      left -= n;
      if (piece.iov_len == 0) ++next;
    }
  }
}

}  // namespace retort::host
