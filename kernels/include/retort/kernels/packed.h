// Weights kept in a narrow type and multiplied as they are: no dequantised copy of a matrix exists.
// A packed matrix [rows, cols] holds the numbers of its file format, maybe in another order
// (rows interleaved, scales apart), in one block of memory that retort_packed_bytes sizes.
// Method: GGUF's block types meet x rounded to int8 per 32 columns, in exact integer products with
// f32 accumulation, whatever the number of rows. f16 and bf16 are widened in registers while their
// rows stream past up to 16 rows of x (any number with AVX-512); NF4, and more rows, take the
// matrix panel by panel, widened to f32 in cache, through a blocked f32 product. `exact` matrices
// of block types always go the latter way, so that x is never rounded (training through frozen
// weights).
// A call uses up to 512 KiB of stack in each thread.
// Block formats: GGUF's, and NF4 with double quantisation (QLoRA, arXiv
// 2305.14314, as bitsandbytes stores it: 64 weights per absmax, absmax in 8 bits per 256).
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_PACKED_H_
#define RETORT_KERNELS_PACKED_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

enum {
  RETORT_PACKED_F32 = 0,
  RETORT_PACKED_F16 = 1,
  RETORT_PACKED_BF16 = 2,
  RETORT_PACKED_Q8_0 = 3,
  RETORT_PACKED_Q4_0 = 4,
  RETORT_PACKED_Q4_1 = 5,
  RETORT_PACKED_Q4_K = 6,
  RETORT_PACKED_Q6_K = 7,
  RETORT_PACKED_NF4 = 8,
  RETORT_PACKED_TYPES = 9,

  RETORT_PACKED_ROWS = 16,  // rows of a block type are interleaved by so many
};

// Weights per block (1 for the float types; 256 for Q4_K and Q6_K) and bytes of one block in the
// file order. cols must be a whole number of blocks. NF4 counts 64 here; its file order is
// [codes: 32 bytes, absmax: f32].
int64_t retort_packed_block_weights(int type) RETORT_KERNELS_NOEXCEPT;
int64_t retort_packed_block_bytes(int type) RETORT_KERNELS_NOEXCEPT;

typedef struct retort_packed_matrix {
  int32_t type;   // RETORT_PACKED_*
  int32_t exact;  // not 0: products never round x to int8
  int64_t rows, cols;
  const void* data;  // 64-byte aligned
} retort_packed_matrix;

// Bytes of the block of memory of a matrix; of F32, F16 and BF16 it is plain row-major.
// -1: cols is no whole number of blocks, or the type is unknown.
int64_t retort_packed_bytes(int type, int64_t rows, int64_t cols) RETORT_KERNELS_NOEXCEPT;

// Rows [row_begin, row_end) from their file order `blocks` (row after row, maybe unaligned) into
// `packed` (of the whole matrix). row_begin is a multiple of RETORT_PACKED_ROWS, row_end too unless
// it is `rows`. Calls for separate ranges may run at once. NF4 takes the whole matrix in one call:
// the second quantisation subtracts the mean of all absmax.
void retort_pack_rows(int type, int64_t rows, int64_t cols, int64_t row_begin, int64_t row_end,
                      const void* blocks, void* packed) RETORT_KERNELS_NOEXCEPT;
// The way back, any range: file order. NF4: absmax as its double quantisation gives it.
void retort_unpack_rows(const retort_packed_matrix* matrix, int64_t row_begin, int64_t row_end,
                        void* blocks) RETORT_KERNELS_NOEXCEPT;
// Dequantised rows [row_begin, row_end), row-major, any range.
void retort_packed_rows_f32(const retort_packed_matrix* matrix, int64_t row_begin, int64_t row_end,
                            float* out, int64_t out_stride) RETORT_KERNELS_NOEXCEPT;

// n weights (whole blocks) into the file order, rounding as ggml's reference quantisers do (Q4_K
// and Q6_K: ours). Non-finite weights give unspecified numbers.
void retort_quantize(int type, const float* weights, int64_t n,
                     void* blocks) RETORT_KERNELS_NOEXCEPT;

// y[m,o] = sum_i x[m,i] * w[o,i] (+ bias[o], if not NULL). Any m. Batch-invariant as
// retort_skinny_gemm_f32: block types and NF4 whatever m is; float types sum in one order up to 16
// rows and in one from 17 on.
// A NaN or infinity in a row of x makes that row of y not finite. y overlaps no input.
// Strides 0: contiguous.
void retort_packed_gemm_f32(const retort_packed_matrix* w, const float* x, int64_t m,
                            int64_t x_stride, const float* bias, float* y, int64_t y_stride,
                            int n_threads) RETORT_KERNELS_NOEXCEPT;

// dx[m,i] = sum_o dy[m,o] * w[o,i], added to dx if accumulate is not 0: the gradient through frozen
// weights. dy is never rounded. dx overlaps no input. Strides 0: contiguous.
void retort_packed_gemm_transposed_f32(const retort_packed_matrix* w, const float* dy, int64_t m,
                                       int64_t dy_stride, int accumulate, float* dx,
                                       int64_t dx_stride, int n_threads) RETORT_KERNELS_NOEXCEPT;

// y[r,:] = w[ids[r],:] * scale: an embedding kept packed.
void retort_packed_embed_f32(const retort_packed_matrix* w, const int32_t* ids, int64_t n,
                             double scale, float* y, int64_t y_stride,
                             int n_threads) RETORT_KERNELS_NOEXCEPT;

// The 16 values of the NF4 code, rising from -1 to 1.
const float* retort_nf4_code(void) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_PACKED_H_
