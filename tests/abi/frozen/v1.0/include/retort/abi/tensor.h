// A borrowed view of an array. Laid out exactly as DLPack 1.x DLTensor (declared here on its own
// so that no other header is needed); a test compares the two layouts.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_TENSOR_H_
#define RETORT_ABI_TENSOR_H_

#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Device types: DLDeviceType. */
#define RETORT_DEVICE_CPU 1
#define RETORT_DEVICE_CUDA 2

/* Type codes: DLDataTypeCode. */
#define RETORT_DTYPE_INT 0u
#define RETORT_DTYPE_UINT 1u
#define RETORT_DTYPE_FLOAT 2u
#define RETORT_DTYPE_BFLOAT 4u
#define RETORT_DTYPE_BOOL 6u

typedef struct retort_device {
  int32_t type; /* RETORT_DEVICE_* */
  int32_t id;   /* 0 on the CPU */
} retort_device;

/* f32 is {FLOAT, 32, 1}, bf16 {BFLOAT, 16, 1}, i64 {INT, 64, 1}, u8 {UINT, 8, 1}. */
typedef struct retort_dtype {
  uint8_t code;   /* RETORT_DTYPE_* */
  uint8_t bits;   /* of one element */
  uint16_t lanes; /* always 1 */
} retort_dtype;

/* Valid until the call returns; owns nothing. Memory that the host allocates starts at a multiple
 * of 64 bytes. A tensor with a zero dimension may have data NULL. Inputs are read-only: the type
 * is shared with outputs, so no const says so; the member's comment does. A dtype, device or
 * stride that a callee does not handle: RETORT_UNIMPLEMENTED. */
typedef struct retort_tensor {
  void* data; /* the first element; NULL only if there is none, or where shapes are asked */
  retort_device device; /* the call's */
  int32_t ndim;         /* 0: one element */
  retort_dtype dtype;   /* of every element */
  int64_t* shape;       /* [ndim], none negative */
  int64_t* strides;     /* [ndim], in elements, never NULL when ndim > 0; rows may be padded */
  uint64_t byte_offset; /* always 0 */
} retort_tensor;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_TENSOR_H_ */
