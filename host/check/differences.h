// How the numeric rules compare: two tensors within a tolerance, and a derivative with what
// central differences of the function itself say.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "host/check/tensors.h"

namespace retort::host::check {

// At most absolute + relative * |expected| apart. Both 0: the same bits.
struct Tolerance {
  double relative = 0, absolute = 0;
  double Of(double expected) const;
};
inline constexpr Tolerance kSameBits{};

std::string Number(double value);  // "%.9g"

// "" or "d_logp[3]: found 1, expected 2 (may differ by 1e-05)". The shapes are the same.
std::string FirstDifference(const Tensor& found, const Tensor& expected, Tolerance tolerance = {});
// "" or the first element that is NaN or infinite.
std::string FirstNonFinite(const Tensor& tensor);
std::string FirstNotZero(const Tensor& tensor);

// The derivative of a function of one number by central differences of fourth order, from its
// values at -2, -1, 0, 1, 2 steps.
struct Slope {
  double value = 0;
  // How far estimates of first order with one and two steps lie apart, and how much the second
  // differences do: where this is above the tolerance, the function has a kink within two steps
  // and says nothing about its derivative.
  double roughness = 0;
};
Slope SlopeOf(const std::function<double(double)>& at_offset, double step);

}  // namespace retort::host::check
