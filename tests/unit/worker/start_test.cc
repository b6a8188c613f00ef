// Starting workers, describing libraries in them, and everything that can go wrong before the
// first call.
// SPDX-License-Identifier: Apache-2.0
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
  WorkerOptions options = Options(200);
  options.program = path;
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
  const Status status =
      Try("reward", "probe", R"({"deed": "hang", "at": "create"})", Options(300)).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("timeout_ms (300)"));
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
