// What the tests of packed matrices share: packing of random weights, and names of the types.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <memory>
#include <new>

#include "retort/kernels/packed.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace retort::kernels {

inline const char* TypeName(int type) {
  constexpr const char* kNames[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0",
                                    "q4_1", "q4_k", "q6_k", "nf4"};
  return kNames[type];
}

// A packed matrix with its memory, 64-byte aligned and followed by guard bytes.
class Packed {
 public:
  Packed(int type, int64_t rows, int64_t cols, const std::vector<uint8_t>& file)
      : bytes_(retort_packed_bytes(type, rows, cols)),
        memory_(static_cast<uint8_t*>(
            ::operator new (static_cast<size_t>(bytes_ + kGuard), std::align_val_t{64}))) {
    std::memset(memory_.get(), 0xa5, static_cast<size_t>(bytes_ + kGuard));
    retort_pack_rows(type, rows, cols, 0, rows, file.data(), memory_.get());
    matrix = {.type = type, .exact = 0, .rows = rows, .cols = cols, .data = memory_.get()};
  }
  ~Packed() {
    for (int64_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(memory_.get()[bytes_ + i], 0xa5) << "written past the end";
    }
  }
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;
  const uint8_t* data() const { return memory_.get(); }
  int64_t bytes() const { return bytes_; }

  std::vector<float> Rows() const {
    std::vector<float> out(static_cast<size_t>(matrix.rows * matrix.cols));
    retort_packed_rows_f32(&matrix, 0, matrix.rows, out.data(), 0);
    return out;
  }

  retort_packed_matrix matrix{};

 private:
  static constexpr int64_t kGuard = 64;
  struct Free {
    void operator()(uint8_t* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  int64_t bytes_;
  std::unique_ptr<uint8_t[], Free> memory_;
};

inline std::vector<uint8_t> Quantized(int type, const std::vector<float>& weights) {
  const int64_t n = static_cast<int64_t>(weights.size());
  std::vector<uint8_t> file(
      static_cast<size_t>(n / retort_packed_block_weights(type) * retort_packed_block_bytes(type)));
  retort_quantize(type, weights.data(), n, file.data());
  return file;
}

inline std::unique_ptr<Packed> RandomPacked(int type, int64_t rows, int64_t cols, uint32_t seed) {
  return std::make_unique<Packed>(type, rows, cols,
                                  Quantized(type, Random<float>(rows * cols, seed, 0.1)));
}

}  // namespace retort::kernels
