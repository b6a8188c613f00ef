// BLAS, which LibTorch's library carries on x86-64 (MKL), opened at the first product that needs
// it: loading LibTorch takes 0.3 s and 115 MB, and decoding, short prompts and packed weights do
// without. Elsewhere LibTorch is linked and products go through its operators (gemm.cc).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace retort::ops {

struct Blas {
  void (*sgemm)(const char* trans_a, const char* trans_b, const int* m, const int* n, const int* k,
                const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
                const float* beta, float* c, const int* ldc) = nullptr;
  void (*dgemm)(const char* trans_a, const char* trans_b, const int* m, const int* n, const int* k,
                const double* alpha, const double* a, const int* lda, const double* b,
                const int* ldb, const double* beta, double* c, const int* ldc) = nullptr;
};

// Opened by the first call, whichever thread makes it. Throws Error FAILED_PRECONDITION if the
// library is not there.
const Blas& OpenBlas();

// Threads of BLAS for calls from this thread; 0: as they were before. Opens nothing: holds from the
// first product on.
void SetBlasThreads(int n_threads);
int BlasThreads();

// "AVX2", "AVX512", ...: what LibTorch says of this machine. Opens it.
std::string LibTorchCpuCapability();

}  // namespace retort::ops
