// What the library never does to its process: handlers, output, folder, locale, umask, floating-
// point mode, environment, threads left behind.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <cfenv>
#include <clocale>
#include <csignal>
#include <cstdlib>

#include "tests/unit/library/host_api.h"

extern char** environ;

namespace retort::host {
namespace {

// Everything that a well-behaved library leaves alone, as text to compare.
std::string ProcessState() {
  std::string state;
  for (int i = 1; i < 32; ++i) {
    struct sigaction action {};
    sigaction(i, nullptr, &action);
    state += std::to_string(reinterpret_cast<uintptr_t>(action.sa_handler)) + ":" +
             std::to_string(action.sa_flags) + " ";
  }
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  for (int i = 1; i < 32; ++i) state += sigismember(&blocked, i) != 0 ? "b" : "-";
  const mode_t mask = umask(0);
  umask(mask);
  state += "\numask " + std::to_string(mask) + "\nfolder " +
           std::filesystem::current_path().string() + "\nlocale " + setlocale(LC_ALL, nullptr) +
           "\nmxcsr " + std::to_string(_mm_getcsr() & ~_MM_EXCEPT_MASK) + " round " +
           std::to_string(fegetround());
  for (char** variable = environ; *variable != nullptr; ++variable)
    state += std::string("\n") + *variable;
  return state;
}

// What is written to a descriptor while it lives.
class Captured {
 public:
  explicit Captured(int descriptor) : descriptor_(descriptor), saved_(dup(descriptor)) {
    path_ = testing::TempDir() + "/captured_" + std::to_string(descriptor);
    const int file = open(path_.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(file, descriptor_);
    close(file);
  }
  ~Captured() { Restore(); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  uintmax_t Bytes() {
    Restore();
    return std::filesystem::file_size(path_);
  }

 private:
  void Restore() {
    if (saved_ < 0) return;
    dup2(saved_, descriptor_);
    close(saved_);
    saved_ = -1;
  }
  int descriptor_, saved_;
  std::string path_;
};

void DoEverything() {
  const Context context = NewContext();
  EXPECT_RETORT_OK(context, retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)));
  const Model model = OpenModel(context, Fixture("llama"));
  EXPECT_EQ(Generate(model.get(), {"Hi"}, R"({"max_tokens": 3})").status, RETORT_OK);
  // A plugin that leaves the floating-point mode changed.
  const RewardHandle rewards =
      NewRewards(context, R"({"plugin": "teller", "isolate": false, "config": {"disturb": true}})");
  const retort_sample sample = Sample("p", "c", nullptr, 0);
  auto table = Sized<retort_score_table>();
  EXPECT_RETORT_OK(context,
                   retort_reward_chain_score(rewards.get(), &sample, sizeof sample, 1, &table));
  const RewardHandle isolated = NewRewards(context, "number_match");
  const Pipeline pipeline = LoadText(context, TinyPipeline(Scratch()));
  EXPECT_RETORT_OK(context, retort_pipeline_run(pipeline.get(), nullptr, nullptr));
  EXPECT_NE(retort_context_load_plugin(context.get(), retort_text("/nowhere.so")), RETORT_OK);
  EXPECT_RETORT_OK(context,
                   retort_command(context.get(), "doctor", {nullptr, 0}, nullptr, nullptr));
}

TEST(Process, StaysAsItWas) {
  const std::string before = ProcessState();
  {
    Captured out(STDOUT_FILENO), error(STDERR_FILENO);
    DoEverything();
    EXPECT_EQ(out.Bytes(), 0u);
    EXPECT_EQ(error.Bytes(), 0u);
  }
  EXPECT_EQ(ProcessState(), before);
}

// An embedder's own modes are kept, not replaced by the default ones.
TEST(Process, AnUnusualFloatingPointModeSurvives) {
  const unsigned before = _mm_getcsr();
  fesetround(FE_UPWARD);
  const std::string unusual = ProcessState();
  const Context context = NewContext();
  const RewardHandle rewards = NewRewards(context, "number_match");
  const retort_sample sample = Sample("p", "c", nullptr, 0);
  auto table = Sized<retort_score_table>();
  EXPECT_RETORT_OK(context,
                   retort_reward_chain_score(rewards.get(), &sample, sizeof sample, 1, &table));
  EXPECT_EQ(ProcessState(), unusual);
  fesetround(FE_TONEAREST);
  _mm_setcsr(before);
}

}  // namespace
}  // namespace retort::host
