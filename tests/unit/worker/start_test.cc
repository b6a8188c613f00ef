// Starting workers, describing libraries in them, and everything that can go wrong before the
// first call.
// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

using WorkerStart = WorkerTest;

TEST_F(WorkerStart, FourKindsCanBeIsolated) {
  for (const char* kind : {"reward", "filter", "source", "generator"})
    EXPECT_TRUE(CanIsolate(kind));
  for (const char* kind : {"op", "loss", "optimizer", "family", ""}) EXPECT_FALSE(CanIsolate(kind));
  const Status status = Try("op", "none", "", Options()).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("in this process only"));
}

TEST_F(WorkerStart, NoProgramIsSaidWithTheRemedy) {
  WorkerOptions options = Options();
  options.program = "/nonexistent/retort-worker";
  const Status status = Try("reward", "probe", "", options).status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("/nonexistent/retort-worker"),
                                      HasSubstr("RETORT_WORKER"), HasSubstr("\"isolate\": false")));
}

TEST_F(WorkerStart, AnotherProgramIsNoWorker) {
  WorkerOptions options = Options();
  for (const char* program : {"/bin/true", "/bin/echo"}) {
    options.program = program;
    const Status status = Try("reward", "probe", "", options).status();
    EXPECT_EQ(status.code(), Code::kUnavailable) << program;
    EXPECT_THAT(status.message(), HasSubstr("exited with code 0"));
  }
}

TEST_F(WorkerStart, AProgramThatNeverGetsReadyIsKilled) {
  const std::string path = Fresh("sleeper");
  std::ofstream(path) << "#!/bin/sh\nsleep 1000\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  WorkerOptions options = Options();
  options.program = path;
  options.start_ms = 200;
  EXPECT_THAT(Try("reward", "probe", "", options).status().message(), HasSubstr("ready in time"));
  std::filesystem::remove(path);
}

TEST_F(WorkerStart, AConfigErrorBeginsWithItsPointer) {
  EXPECT_THAT(Try("reward", "probe", R"({"deed": 3})", Options()).status().message(),
              StartsWith("/deed: "));
  const Status refused = Try("reward", "probe", R"({"deed": "refuse"})", Options()).status();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_EQ(refused.message(), "/deed: not this one");
}

TEST_F(WorkerStart, ACrashWhileCreatingIsNamed) {
  const Status status =
      Try("reward", "probe", R"({"deed": "crash", "at": "create"})", Options()).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("reward probe"), HasSubstr("signal 11"), HasSubstr("created")));
}

TEST_F(WorkerStart, AHangWhileCreatingIsNamed) {
  WorkerOptions options = Options();
  options.start_ms = 1000;
  const Status status =
      Try("reward", "probe", R"({"deed": "hang", "at": "create"})", options).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("within 1000 ms"));
}

// Gone, or dead and not yet collected by whoever inherited it.
bool IsDead(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string id, name, state;
  return !(file >> id >> name >> state) || state == "Z";
}

TEST_F(WorkerStart, AWorkerInAnEndlessLoopEndsWithItsHost) {
  int from_host[2];
  ASSERT_EQ(pipe(from_host), 0);
  const pid_t host = fork();
  if (host == 0) {
    const PluginInstance reward = Make("reward", "probe");
    const int pid = PidOf(reward);
    if (write(from_host[1], &pid, sizeof pid) == sizeof pid) {
      Score(reward, std::vector<std::string>{"hang"});
    }
    _exit(0);
  }
  int worker = 0;
  ASSERT_EQ(read(from_host[0], &worker, sizeof worker), static_cast<ssize_t>(sizeof worker));
  EXPECT_FALSE(IsDead(worker));
  kill(host, SIGKILL);
  waitpid(host, nullptr, 0);
  for (int i = 0; i < 3000 && !IsDead(worker); ++i) poll(nullptr, 0, 10);
  EXPECT_TRUE(IsDead(worker));
  close(from_host[0]);
  close(from_host[1]);
}

TEST_F(WorkerStart, TheInstanceIsDestroyedInOrder) {
  const std::string trace = Fresh("trace");
  { const auto made = Make("reward", "probe", Options(), R"({"deed": "destroy:)" + trace + "\"}"); }
  EXPECT_TRUE(std::filesystem::exists(trace));
  std::filesystem::remove(trace);
}

TEST_F(WorkerStart, AHangInDestroyDoesNotHoldTheHost) {
  const auto made = Make("reward", "probe", Options(), R"({"deed": "hang"})");
  SUCCEED();  // and the test ends
}

TEST_F(WorkerStart, DescribeSaysWhatALibraryHolds) {
  const Result<LibraryDescription> got = DescribeInWorker(RETORT_PROBE, Options());
  ASSERT_TRUE(got.ok()) << got.status().ToString();
  EXPECT_EQ(got->path, RETORT_PROBE);
  EXPECT_EQ(got->plugins.size(), 8u);
  EXPECT_EQ(got->plugins[0].id, "probe");
  EXPECT_EQ(got->sha256.size(), 64u);
}

TEST_F(WorkerStart, DescribeRefusesWhatIsNoPlugin) {
  EXPECT_EQ(DescribeInWorker("/nonexistent.so", Options()).status().code(), Code::kNotFound);
  EXPECT_FALSE(DescribeInWorker("/bin/true", Options()).ok());
}

}  // namespace
}  // namespace retort::host
