// Plays the host in a test of a plugin in C++: testing_c.h with vectors and texts.
//
//   int main(int argc, char** argv) {
//     retort::sdk::testing::PluginTest test(argc, argv, "reward", "my_reward");
//     test.Create("{}");
//     TEST_CHECK(test, test.Score({{.completion = "4", .gold = "4"}})[0].score == 1);
//     return test.Finish();
//   }
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_TESTING_H_
#define RETORT_SDK_TESTING_H_

#include <cmath>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "retort/sdk/testing_c.h"

namespace retort::sdk::testing {

// A NULL gold or record is absent.
struct TestSample {
  std::string completion = {};
  const char* gold = nullptr;
  std::string prompt = {};
  const char* record = nullptr;
  uint32_t finish = RETORT_FINISH_STOP;
};

struct TestScore {
  double score = 0;
  uint8_t status = RETORT_SCORE_ERROR;
  std::string info = {};
};

struct TestDecision {
  uint32_t action = RETORT_KEEP;
  std::string reason = {}, completion = {};
};

// What save writes and load reads, at most three bytes a call.
class Buffer {
 public:
  const retort_sink* sink() {
    sink_ = retort_test_sink(&buffer_);
    return &sink_;
  }
  const retort_reader* reader() {
    reader_ = retort_test_reader(&buffer_);
    return &reader_;
  }
  char* bytes() { return buffer_.data; }
  size_t size() const { return buffer_.n; }

 private:
  retort_test_buffer buffer_{};
  retort_sink sink_{};
  retort_reader reader_{};
};

// A dense tensor that owns its values; columns 0: a vector.
template <class T>
class Tensor {
 public:
  explicit Tensor(std::vector<T> values, size_t rows = 0, size_t columns = 0)
      : values_(std::move(values)) {
    retort_test_tensor_of(&tensor_, values_.data(), DType(),
                          static_cast<int64_t>(rows > 0 ? rows : values_.size()),
                          static_cast<int64_t>(columns));
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  retort_tensor* get() { return &tensor_.tensor; }
  std::vector<T>& values() { return values_; }

 private:
  static retort_dtype DType() {
    constexpr uint8_t kCode = std::is_floating_point_v<T> ? RETORT_DTYPE_FLOAT
                              : std::is_signed_v<T>       ? RETORT_DTYPE_INT
                                                          : RETORT_DTYPE_UINT;
    return {kCode, 8 * sizeof(T), 1};
  }
  std::vector<T> values_;
  retort_test_tensor tensor_{};
};

class PluginTest {
 public:
  // The library is the program's first argument.
  PluginTest(int argc, char** argv, std::string kind, std::string id)
      : kind_(std::move(kind)), id_(std::move(id)) {
    retort_test_open(&test_, argc, argv);
  }
  PluginTest(const PluginTest&) = delete;
  PluginTest& operator=(const PluginTest&) = delete;

  // A new instance; the config is checked and filled as the host does. Ends the program on failure.
  void Create(const std::string& config) {
    retort_test_create(&test_, kind_.c_str(), id_.c_str(), config.c_str());
  }
  // The config is refused, with a text that contains `part`.
  bool Refuses(const std::string& config, std::string_view part) {
    return retort_test_try_create(&test_, kind_.c_str(), id_.c_str(), config.c_str()) !=
               RETORT_OK &&
           error().find(part) != std::string::npos;
  }

  template <class Table_>
  const Table_* Table(const char* interface_id) {
    return static_cast<const Table_*>(retort_test_table(&test_, interface_id));
  }
  retort_instance* instance() { return test_.instance; }
  const retort_call* call() { return retort_test_call(&test_); }
  void SetCancel(bool cancel) { test_.cancel = cancel ? 1 : 0; }
  std::string error() const { return test_.error; }  // of the last call
  retort_test* raw() { return &test_; }

  // One batch; a failing call counts as a failed check.
  std::vector<TestScore> Score(const std::vector<TestSample>& samples) {
    const std::vector<retort_sample> raw = Raw(samples);
    std::vector<double> score(raw.size(), std::nan(""));
    std::vector<uint8_t> status(raw.size(), RETORT_SCORE_ERROR);
    std::vector<TestScore> out(raw.size());
    retort_reward_args args{};
    args.struct_size = sizeof(args);
    args.sample_stride = sizeof(retort_sample);
    args.samples = raw.data();
    args.n = raw.size();
    args.score = score.data();
    args.status = status.data();
    args.info_ctx = &out;
    args.info = [](void* ctx, uint64_t i, retort_str json) {
      (*static_cast<std::vector<TestScore>*>(ctx))[i].info.assign(json.ptr, json.len);
    };
    const auto* reward = Table<retort_reward_v1>(RETORT_REWARD_INTERFACE);
    Note(reward->score(instance(), call(), &args) == RETORT_OK, __FILE__, __LINE__, "score is OK");
    for (size_t i = 0; i < out.size(); ++i) {
      out[i].score = score[i];
      out[i].status = status[i];
    }
    return out;
  }

  // All samples as one group, after no observe pass.
  std::vector<TestDecision> Judge(const std::vector<TestSample>& samples) {
    const std::vector<retort_sample> raw = Raw(samples);
    std::vector<TestDecision> out(raw.size());
    const retort_group group = {0, raw.size(), 0};
    const auto* filter = Table<retort_filter_v1>(RETORT_FILTER_INTERFACE);
    retort_filter_args args{};
    args.struct_size = sizeof(args);
    args.sample_stride = sizeof(retort_sample);
    args.group_stride = sizeof(retort_group);
    args.pass = filter->n_observe_passes;
    args.samples = raw.data();
    args.n_samples = raw.size();
    args.groups = &group;
    args.n_groups = 1;
    args.out_ctx = &out;
    args.decide = [](void* ctx, uint64_t i, const retort_decision* d) {
      const auto text = [](retort_str s) {
        return s.ptr == nullptr ? std::string() : std::string(s.ptr, s.len);
      };
      (*static_cast<std::vector<TestDecision>*>(ctx))[i] = {d->action, text(d->reason),
                                                            text(d->completion)};
    };
    Note(filter->judge(instance(), call(), &args) == RETORT_OK, __FILE__, __LINE__, "judge is OK");
    return out;
  }

  bool Note(bool good, const char* file, int line, const char* what) {
    return retort_test_note(&test_, good ? 1 : 0, file, line, what) != 0;
  }
  int Finish() { return retort_test_finish(&test_); }  // the program's exit code

 private:
  static std::vector<retort_sample> Raw(const std::vector<TestSample>& samples) {
    std::vector<retort_sample> raw;
    for (const TestSample& s : samples) {
      retort_sample r = retort_test_sample(nullptr, s.gold);
      r.prompt = {s.prompt.data(), s.prompt.size()};
      r.completion = {s.completion.data(), s.completion.size()};
      r.record = retort_test_text(s.record);
      r.finish = s.finish;
      r.uid = raw.size();
      r.index = static_cast<uint32_t>(raw.size());
      raw.push_back(r);
    }
    return raw;
  }

  std::string kind_, id_;
  retort_test test_{};
};

}  // namespace retort::sdk::testing

#define TEST_CHECK(test, condition) \
  (test).Note(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define TEST_NEAR(test, a, b, tolerance) \
  retort_test_near((test).raw(), a, b, tolerance, __FILE__, __LINE__, #a)

#endif  // RETORT_SDK_TESTING_H_
