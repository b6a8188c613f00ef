// retort_tensor is laid out as DLTensor of LibTorch's copy of DLPack, so that tensors can be handed
// on without conversion.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/dlpack.h>
#include <gtest/gtest.h>

#include <cstddef>

#include "retort/abi/tensor.h"

namespace {

static_assert(sizeof(retort_tensor) == sizeof(DLTensor));
static_assert(offsetof(retort_tensor, data) == offsetof(DLTensor, data));
static_assert(offsetof(retort_tensor, device) == offsetof(DLTensor, device));
static_assert(offsetof(retort_tensor, ndim) == offsetof(DLTensor, ndim));
static_assert(offsetof(retort_tensor, dtype) == offsetof(DLTensor, dtype));
static_assert(offsetof(retort_tensor, shape) == offsetof(DLTensor, shape));
static_assert(offsetof(retort_tensor, strides) == offsetof(DLTensor, strides));
static_assert(offsetof(retort_tensor, byte_offset) == offsetof(DLTensor, byte_offset));
static_assert(offsetof(retort_dtype, code) == offsetof(DLDataType, code));
static_assert(offsetof(retort_dtype, bits) == offsetof(DLDataType, bits));
static_assert(offsetof(retort_dtype, lanes) == offsetof(DLDataType, lanes));
static_assert(offsetof(retort_device, id) == offsetof(DLDevice, device_id));

TEST(Tensor, CodesAreDlpacks) {
  EXPECT_EQ(int{RETORT_DEVICE_CPU}, int{kDLCPU});
  EXPECT_EQ(int{RETORT_DEVICE_CUDA}, int{kDLCUDA});
  EXPECT_EQ(unsigned{RETORT_DTYPE_INT}, unsigned{kDLInt});
  EXPECT_EQ(unsigned{RETORT_DTYPE_UINT}, unsigned{kDLUInt});
  EXPECT_EQ(unsigned{RETORT_DTYPE_FLOAT}, unsigned{kDLFloat});
  EXPECT_EQ(unsigned{RETORT_DTYPE_BFLOAT}, unsigned{kDLBfloat});
  EXPECT_EQ(unsigned{RETORT_DTYPE_BOOL}, unsigned{kDLBool});
}

}  // namespace
