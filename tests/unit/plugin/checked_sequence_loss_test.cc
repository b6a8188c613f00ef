// The checked wrapper around sequence losses.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tests/unit/plugin/table_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::function<void(const retort_sequence_loss_args&)> the_eval;
retort_loss_spec the_spec;
const char* const kAuxNames[] = {"kl"};

// Three tokens, the middle one masked; logp and derivatives as T.
template <class T>
class Loss {
 public:
  Loss() {
    the_spec = {};
    the_spec.struct_size = sizeof(the_spec);
    the_spec.needs = RETORT_SEQUENCE_ADVANTAGE;
    the_spec.n_aux = 1;
    the_spec.aux_names = kAuxNames;
  }

  Result<std::unique_ptr<CheckedInstance>> Wrapped() {
    table_.struct_size = sizeof(table_);
    table_.spec = [](retort_instance*) -> const retort_loss_spec* { return &the_spec; };
    table_.eval = [](retort_instance*, const retort_call*, const retort_sequence_loss_args* a) {
      the_eval(*a);
      return retort_status{RETORT_OK};
    };
    return WrapOne(RETORT_SEQUENCE_LOSS_INTERFACE, &table_, "loss");
  }

  Status Eval(bool with_advantage = true) {
    const auto wrapped = Wrapped().value();
    retort_sequence_loss_args args{};
    args.struct_size = sizeof(args);
    args.mask = &mask_t_;
    args.logp = &logp_t_;
    args.advantage = with_advantage ? &logp_t_ : nullptr;
    args.loss = &loss_t_;
    args.d_logp = &d_logp_t_;
    args.aux = &aux_t_;
    PluginCall call("loss x");
    return call.End(wrapped->out.sequence_loss.eval(wrapped->handle(), call.Begin(), &args),
                    "eval");
  }

  std::vector<T> d_logp = {0, 0, 0};
  std::vector<double> loss = {0}, aux = {0, 0};

 private:
  retort_tensor Of(void* data, int64_t* shape, retort_dtype dtype, int32_t ndim = 1) {
    return {data, {RETORT_DEVICE_CPU, 0}, ndim, dtype, shape, strides_, 0};
  }
  static constexpr retort_dtype kReal = {RETORT_DTYPE_FLOAT, 8 * sizeof(T), 1};
  static constexpr retort_dtype kF64 = {RETORT_DTYPE_FLOAT, 64, 1};
  static constexpr retort_dtype kU8 = {RETORT_DTYPE_UINT, 8, 1};
  int64_t three_[1] = {3}, one_[1] = {1}, one_two_[2] = {1, 2}, strides_[2] = {1, 1};
  uint8_t mask_[3] = {1, 0, 1};
  T logp_[3] = {-1, std::numeric_limits<T>::quiet_NaN(), -2};
  retort_tensor mask_t_ = Of(mask_, three_, kU8), logp_t_ = Of(logp_, three_, kReal),
                loss_t_ = Of(loss.data(), one_, kF64), d_logp_t_ = Of(d_logp.data(), three_, kReal),
                aux_t_ = Of(aux.data(), one_two_, kF64, 2);
  retort_sequence_loss_v1 table_{};
};

template <class T>
void Write(const retort_sequence_loss_args& a, double loss, std::vector<T> d, double count = 2) {
  *static_cast<double*>(a.loss->data) = loss;
  std::copy(d.begin(), d.end(), static_cast<T*>(a.d_logp->data));
  static_cast<double*>(a.aux->data)[0] = 0.5;
  static_cast<double*>(a.aux->data)[1] = count;
}

template <class T>
std::string ErrorOf(std::function<void(const retort_sequence_loss_args&)> eval) {
  the_eval = std::move(eval);
  const Status status = Loss<T>().Eval();
  EXPECT_FALSE(status.ok());
  return status.message();
}

TEST(CheckedSequenceLoss, GoodValuesPass) {
  the_eval = [](const auto& a) { Write<float>(a, 1.5, {1, 0, -2}); };
  Loss<float> loss;
  const Status status = loss.Eval();
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(loss.d_logp, (std::vector<float>{1, 0, -2}));
  EXPECT_EQ(loss.loss[0], 1.5);
  the_eval = [](const auto& a) { Write<double>(a, 1.5, {1, -0.0, -2}); };
  EXPECT_TRUE(Loss<double>().Eval().ok());
}

TEST(CheckedSequenceLoss, MaskedDerivativeMustBeZero) {
  EXPECT_THAT(ErrorOf<float>([](const auto& a) {
                Write<float>(a, 1, {1, 1e-30F, 1});
              }),
              AllOf(HasSubstr("d_logp of token 1"), HasSubstr("masked")));
  EXPECT_THAT(ErrorOf<double>([](const auto& a) {
                Write<double>(a, 1, {1, NAN, 1});
              }),
              HasSubstr("masked"));
}

TEST(CheckedSequenceLoss, NonFiniteNamesTheToken) {
  EXPECT_THAT(ErrorOf<float>([](const auto& a) {
                Write<float>(a, 1, {1, 0, INFINITY});
              }),
              AllOf(HasSubstr("d_logp of token 2"), HasSubstr("inf")));
  EXPECT_THAT(ErrorOf<float>([](const auto& a) {
                Write<float>(a, NAN, {1, 0, 1});
              }),
              HasSubstr("the loss is nan"));
}

TEST(CheckedSequenceLoss, WhatIsNotWrittenIsFound) {
  EXPECT_THAT(ErrorOf<float>([](const auto&) {}), HasSubstr("not written"));
  EXPECT_THAT(ErrorOf<float>([](const auto& a) { *static_cast<double*>(a.loss->data) = 1; }),
              HasSubstr("d_logp of token 0"));
}

TEST(CheckedSequenceLoss, AuxCountMustBeSane) {
  EXPECT_THAT(ErrorOf<float>([](const auto& a) {
                Write<float>(a, 1, {1, 0, 1}, -1);
              }),
              HasSubstr("aux value kl"));
}

TEST(CheckedSequenceLoss, MissingSideInputNeverReachesThePlugin) {
  bool called = false;
  the_eval = [&](const auto&) { called = true; };
  EXPECT_THAT(Loss<float>().Eval(false).message(), HasSubstr("needs advantage"));
  EXPECT_FALSE(called);
}

TEST(CheckedSequenceLoss, BadSpecsAreRefused) {
  Loss<float> loss;
  the_spec.needs = UINT64_C(1) << 12;
  EXPECT_THAT(loss.Wrapped().status().message(), HasSubstr("bits 4096"));
  the_spec.needs = 0;
  the_spec.flags = 1U << 2;
  EXPECT_THAT(loss.Wrapped().status().message(), HasSubstr("flag bits: 4"));
  the_spec.flags = 1U << 20;  // a hint
  EXPECT_TRUE(loss.Wrapped().ok());
  const char* const twice[] = {"kl", "kl"};
  the_spec.n_aux = 2;
  the_spec.aux_names = twice;
  EXPECT_THAT(loss.Wrapped().status().message(), HasSubstr("two aux values named kl"));
}

}  // namespace
}  // namespace retort::host
