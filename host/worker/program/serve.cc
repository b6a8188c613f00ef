// SPDX-License-Identifier: Apache-2.0
#include "host/worker/program/serve.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>

#include "core/base/plugin_call.h"
#include "host/library/guard.h"
#include "host/plugin/description.h"
#include "host/worker/program/calls.h"

namespace retort::host {
namespace {

// Ends the process when the host is gone, also while the plugin is in an endless loop. Not by
// PR_SET_PDEATHSIG: that fires when the thread that started the worker ends, and hosts have
// threads that come and go.
void WatchHost() {
  std::thread([] {
    pollfd host{kWorkerSocketFd, 0, 0};  // POLLHUP and POLLERR are always reported
    for (;;) {
      const int n = poll(&host, 1, -1);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 || (host.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) _exit(0);
    }
  }).detach();
}

// A crash is expected here and its core is of no use to the host; and when memory runs out, the
// kernel is to take the worker before the host.
void PrepareToDie() {
  const rlimit no_core{0, 0};
  (void)setrlimit(RLIMIT_CORE, &no_core);
  const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  constexpr char kFirst[] = "800";
  (void)!write(fd, kFirst, sizeof kFirst - 1);
  close(fd);
}

const std::atomic<int32_t>* MapCancelPage() {
  void* at = mmap(nullptr, sizeof(int32_t), PROT_READ, MAP_SHARED, kWorkerCancelFd, 0);
  return at == MAP_FAILED ? nullptr : static_cast<const std::atomic<int32_t>*>(at);
}

// The fields of a reply that is a status alone, or a description.
void PutStatus(const Status& status, FrameWriter& out) {
  out.Int(static_cast<int64_t>(status.code()));
  out.Text(std::string_view(status.message()));
}

void Describe(FrameReader& in, FrameWriter& out) {
  const std::string path(in.Text());
  std::string json;
  const Status status = Guard([&]() -> Status {
    RETORT_ASSIGN_OR_RETURN(const LibraryDescription description, DescribeLibrary(path));
    json = DescriptionToJson(description);
    return OkStatus();
  });
  out.CopyAll();
  if (status.ok()) return PutStatus({Code::kOk, std::move(json)}, out);
  PutStatus(status, out);
}

void Create(Held& held, FrameReader& in, FrameWriter& out) {
  const CreateRequest request = TakeCreate(in);
  TableFacts facts;
  const Status status = Guard([&]() -> Status { return held.Create(request, &facts); });
  out.CopyAll();
  PutStatus(status, out);
  PutFacts(facts, out);
}

}  // namespace

int Serve() {
  fcntl(kWorkerSocketFd, F_SETFD, FD_CLOEXEC);
  fcntl(kWorkerCancelFd, F_SETFD, FD_CLOEXEC);
  PrepareToDie();
  WatchHost();
  HostLink link(kWorkerSocketFd);
  Held held(link, MapCancelPage());
  FrameWriter ready;
  ready.Uint(kWorkerProtocol);
  link.Send(FrameType::kReady, 0, ready);
  Inbox::Frame frame;
  while (link.Receive(&frame)) {
    FrameReader in(frame.fields);
    if (frame.type == FrameType::kDestroy) {
      held.Destroy();
      FrameWriter done;
      PutStatus(OkStatus(), done);
      link.Send(FrameType::kReply, frame.number, done);
      continue;
    }
    if (frame.type != FrameType::kDescribe && frame.type != FrameType::kCreate) {
      held.Answer(frame.type, frame.number, in);
      continue;
    }
    FrameWriter reply;
    if (frame.type == FrameType::kDescribe) {
      Describe(in, reply);
    } else {
      Create(held, in, reply);
    }
    link.Send(FrameType::kReply, frame.number, reply);
  }
  // Without destructors: the plugin's destroy may hang, and the host is not there to see it.
  _exit(0);
}

}  // namespace retort::host
