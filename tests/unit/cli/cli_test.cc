// The program from outside: help texts against goldens, exit codes, signals, pipes, the bar.
// RETORT_UPDATE_GOLDENS=1 (target update_cli_goldens) writes the goldens instead of comparing.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string Fixture(const std::string& name) {
  return std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + name;
}

// A running program with its three streams in our hands.
class Process {
 public:
  enum class Error { kPipe, kTerminal };
  explicit Process(const std::vector<std::string>& args, Error error = Error::kPipe) {
    int in[2], out[2], err[2];
    EXPECT_EQ(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    if (error == Error::kTerminal) {
      EXPECT_EQ(openpty(&err[0], &err[1], nullptr, nullptr, nullptr), 0);
    } else {
      EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
    }
    std::vector<std::string> words = {RETORT_PROGRAM};
    words.insert(words.end(), args.begin(), args.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      dup2(err[1], 2);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    in_ = in[1];
    out_ = out[0];
    err_ = err[0];
  }
  ~Process() {
    CloseInput();
    CloseOutput();
    close(err_);
  }

  void Write(const std::string& text) {
    ASSERT_EQ(write(in_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void CloseInput() { Close(in_); }
  void CloseOutput() { Close(out_); }
  void Signal(int signal) { kill(pid_, signal); }
  // One line of standard output.
  std::string ReadLine() {
    std::string line;
    for (char c = 0; read(out_, &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  std::string Rest() { return out_ < 0 ? "" : ReadAll(out_); }
  std::string ErrorText() { return ReadAll(err_); }
  // The exit code, or 128 + the signal that it died of.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  static void Close(int& fd) {
    if (fd >= 0) close(fd);
    fd = -1;
  }
  static std::string ReadAll(int fd) {
    std::string text;
    char piece[4096];
    for (ssize_t n = 0; (n = read(fd, piece, sizeof piece)) > 0;) {
      text.append(piece, static_cast<size_t>(n));
    }
    return text;
  }
  pid_t pid_ = 0;
  int in_ = -1, out_ = -1, err_ = -1;
};

struct Ended {
  int code;
  std::string out, err;
};
Ended RunProgram(const std::vector<std::string>& args, const std::string& input = "") {
  Process process(args);
  process.Write(input);
  process.CloseInput();
  std::string out = process.Rest();
  std::string err = process.ErrorText();
  return {process.Wait(), out, err};
}

void ExpectUsageError(const std::vector<std::string>& args, const std::string& part) {
  const Ended ended = RunProgram(args);
  EXPECT_EQ(ended.code, 2) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr(part));
  EXPECT_EQ(ended.out, "");
}

void CompareWithGolden(const std::string& name, const std::string& text) {
  const std::string path = std::string(RETORT_SOURCE_DIR) + "/tests/golden/cli/" + name + ".txt";
  if (std::getenv("RETORT_UPDATE_GOLDENS") != nullptr) {
    std::ofstream(path) << text;
    return;
  }
  std::stringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(text, golden.str()) << path << "; ninja update_cli_goldens rewrites it";
}

TEST(CliHelp, EveryTextIsAsRecorded) {
  CompareWithGolden("help", RunProgram({"--help"}).out);
  CompareWithGolden("plugin", RunProgram({"plugin", "--help"}).out);
  for (const std::string name :
       {"run", "plan", "tokenize", "logprob", "generate", "score", "filter", "doctor"}) {
    const Ended ended = RunProgram({name, "--help"});
    EXPECT_EQ(ended.code, 0);
    CompareWithGolden(name, ended.out);
    EXPECT_THAT(ended.out, HasSubstr("Example"));
  }
  for (const std::string name : {"list", "info", "check"}) {
    CompareWithGolden("plugin_" + name, RunProgram({"plugin", name, "--help"}).out);
  }
  for (const std::string name : {"show", "convert", "quantize", "diff", "merge"}) {
    CompareWithGolden("model_" + name, RunProgram({"model", name, "--help"}).out);
  }
}

TEST(CliModel, DiffEndsInOneIfModelsDiffer) {
  const std::string a = Fixture("qwen3");
  const Ended equal = RunProgram({"model", "diff", a, a});
  EXPECT_EQ(equal.code, 0) << equal.err;
  const Ended other = RunProgram({"model", "diff", a, Fixture("qwen2"), "--quiet"});
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.out, HasSubstr("only in A"));
  EXPECT_THAT(other.err, HasSubstr("the models differ"));
}

TEST(CliModel, WrongRequestsAreUsageErrors) {
  const std::string model = Fixture("qwen3");
  ExpectUsageError({"model", "convert", model}, "needs SRC DST");
  ExpectUsageError({"model", "convert", model, "m.gguf", "--type", "q3"}, "these can: f32, f16");
  ExpectUsageError({"model", "quantize", model, "m.gguf"}, "needs --type");
  ExpectUsageError({"model", "merge", model, "a"}, "needs BASE ADAPTER DST");
  ExpectUsageError({"model", "diff", model, model, "--tolerance", "-1"}, "tolerance");
  ExpectUsageError({"model", "quantise"}, "did you mean `model quantize`?");
}

TEST(CliHelp, WithoutWordsTheOverviewIsAnError) {
  const Ended ended = RunProgram({});
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.out, "");
  EXPECT_EQ(ended.err, RunProgram({"--help"}).out);
}

TEST(CliHelp, VersionIsOneLine) {
  EXPECT_EQ(RunProgram({"--version"}).out, std::string("retort ") + RETORT_VERSION + "\n");
}

TEST(CliUsage, WrongWordsEndWithTwoAndTheNearestRightOne) {
  ExpectUsageError({"tokenise", "m"}, "did you mean `tokenize`?");
  ExpectUsageError({"plugin", "lsit"}, "did you mean `plugin list`?");
  ExpectUsageError({"plugin"}, "needs one of: list, info");
  ExpectUsageError({"--verbos"}, "a command comes first");
  ExpectUsageError({"tokenize", "m", "--chta"}, "did you mean `--chat`?");
  ExpectUsageError({"tokenize", "m", "--ch"}, "unknown option `--ch`");  // no guessing
  ExpectUsageError({"tokenize"}, "needs MODEL");
  ExpectUsageError({"tokenize", "a", "b"}, "unexpected argument `b`");
  ExpectUsageError({"doctor", "now"}, "unexpected argument `now`");
  ExpectUsageError({"score"}, "needs --reward");
  ExpectUsageError({"generate", "m", "--samples", "many"}, "many");
  ExpectUsageError({"generate", "m", "--samples"}, "samples");
  ExpectUsageError({"generate", "m", "--samples", "0", "--prompt", "x"}, "at least 1");
  ExpectUsageError({"run", "/nowhere/pipeline.json", "--set"}, "set");
}

TEST(CliExit, AFileAtFaultEndsWithOne) {
  EXPECT_EQ(RunProgram({"tokenize", "/nowhere"}).code, 1);
  const Ended broken =
      RunProgram({"tokenize", Fixture("llama")}, "{\"text\": \"a\"}\n{\"text\":\n");
  EXPECT_EQ(broken.code, 1);
  EXPECT_THAT(broken.err, HasSubstr("retort: standard input:2:"));
  EXPECT_THAT(broken.out, HasSubstr("\"ids\""));  // the line before it was answered
}

TEST(CliExit, WordsWithQuotesAndLineFeedsArriveWhole) {
  const Ended ended = RunProgram({"plugin", "info", "a\"b\\\n\x01"});
  EXPECT_EQ(ended.code, 2);
  EXPECT_THAT(ended.err, HasSubstr("no plugin \"a\"b\\\n\x01\""));
}

TEST(CliSignals, InterruptStopsCleanlyWhileWaitingForInput) {
  for (const int signal : {SIGINT, SIGTERM}) {
    Process process({"tokenize", Fixture("llama")});
    process.Write("{\"text\": \"a\"}\n");
    EXPECT_THAT(process.ReadLine(), HasSubstr("\"ids\""));  // it runs, and now waits for more
    process.Signal(signal);
    EXPECT_EQ(process.Wait(), 1);
    EXPECT_THAT(process.ErrorText(), AllOf(HasSubstr("interrupted"), Not(HasSubstr("read"))));
  }
}

TEST(CliPipes, AClosedOutputEndsItQuietly) {
  Process process({"tokenize", Fixture("llama")});
  process.CloseOutput();
  process.Write("{\"text\": \"a\"}\n");
  process.CloseInput();
  EXPECT_EQ(process.Wait(), 1);
  EXPECT_EQ(process.ErrorText(), "");
}

TEST(CliProgress, ABarOnATerminalAndNothingOfItOtherwise) {
  const std::string lines = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
  const std::string path = testing::TempDir() + "retort-cli-lines.jsonl";
  std::ofstream(path) << lines;
  const std::vector<std::string> args = {"tokenize", Fixture("llama"), "--input", path};
  EXPECT_THAT(RunProgram(args).err, Not(HasSubstr("\r")));
  Process watched(args, Process::Error::kTerminal);
  watched.CloseInput();
  watched.Rest();
  const std::string shown = watched.ErrorText();
  EXPECT_EQ(watched.Wait(), 0);
  EXPECT_THAT(shown, AllOf(HasSubstr("\r["), HasSubstr("tokenize  2 lines"), HasSubstr("\x1b[K")));
  std::vector<std::string> quiet = args;
  quiet.push_back("--quiet");
  Process silent(quiet, Process::Error::kTerminal);
  silent.CloseInput();
  silent.Rest();
  EXPECT_EQ(silent.ErrorText(), "");
  EXPECT_EQ(silent.Wait(), 0);
}

// In this process, since the entry asks for it: the program dies of what the plugin did, by name.
TEST(CliCrash, ThePluginIsNamedAndTheSignalKept) {
  const std::string samples = "{\"prompt\": \"p\", \"completion\": \"poison\"}\n";
  for (const auto& [plugin, signal, name] :
       {std::tuple{"crash_in_sample", SIGSEGV, "SIGSEGV"}, std::tuple{"aborts", SIGABRT, "SIGABRT"},
        std::tuple{"overflows_stack", SIGSEGV, "SIGSEGV"}}) {
    const Ended ended = RunProgram(
        {"score", "--plugin", std::string(RETORT_BAD_PLUGIN_DIR) + "/" + plugin + ".so", "--reward",
         std::string(R"({"plugin": ")") + plugin + R"(", "isolate": false})"},
        samples);
    EXPECT_EQ(ended.code, 128 + signal) << ended.err;
    EXPECT_THAT(ended.err, AllOf(HasSubstr(name), HasSubstr(std::string("reward ") + plugin),
                                 HasSubstr(std::string(plugin) + ".so")));
  }
}

}  // namespace
