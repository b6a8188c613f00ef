// The worker's end of the socket. Reading is the main thread's; lines of the plugin's log may be
// sent by any thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>

#include "host/worker/frame.h"

namespace retort::host {

class HostLink {
 public:
  explicit HostLink(int fd) : fd_(fd) {}
  // Waits for the next request. False: the host is gone, or what it sent is no frame.
  bool Receive(Inbox::Frame* frame);
  // Blocks while the host has no room. Ends the process when the host is gone: nobody is left to
  // work for.
  void Send(FrameType type, uint64_t number, FrameWriter& fields);

 private:
  int fd_;
  Inbox inbox_;
  std::mutex sending_;
};

}  // namespace retort::host
