// The teacher of a chunk, as the host hands it over, checked: whole rows of logits, or a cache of
// its likeliest tokens. Letters: R rows, V vocabulary, K entries of the cache.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "retort/sdk/loss.h"

namespace retort::kd {

// Rows of teacher logits in the type of the student's: as they are, or a few at a time copied.
template <class T>
class TeacherLogits {
 public:
  TeacherLogits() = default;
  TeacherLogits(const retort_tensor& t, int64_t rows, int64_t vocab) {
    if (t.dtype.code == RETORT_DTYPE_BFLOAT && t.dtype.bits == 16 && t.ndim == 2) {
      retort_tensor as_u16 = t;
      as_u16.dtype.code = RETORT_DTYPE_UINT;
      bf16_ = sdk::MatrixOf<const uint16_t>(as_u16, "teacher_logits");
    } else if (sdk::IsType<T>(t.dtype)) {
      same_ = sdk::MatrixOf<const T>(t, "teacher_logits");
    } else {
      f32_ = sdk::MatrixOf<const float>(t, "teacher_logits");
    }
    if (t.shape[0] == rows && t.shape[1] == vocab) return;
    throw sdk::Failure(RETORT_INVALID_ARGUMENT,
                       "teacher_logits is [" + std::to_string(t.shape[0]) + ", " +
                           std::to_string(t.shape[1]) + "], the student's logits are [" +
                           std::to_string(rows) + ", " + std::to_string(vocab) +
                           "]; teacher and student must have the same vocabulary");
  }
  bool needs_copy() const { return !same_; }
  int64_t stride(int64_t vocab) const { return same_ ? same_.stride : vocab; }
  // Rows [first, first + n); copy: room for them.
  const T* Rows(int64_t first, int64_t n, int64_t vocab, T* copy) const {
    if (same_) return same_[first];
    for (int64_t i = 0; i < n; ++i) {
      T* to = copy + i * vocab;
      for (int64_t v = 0; v < vocab; ++v) {
        to[v] = f32_ ? static_cast<T>(f32_[first + i][v]) : FromBf16(bf16_[first + i][v]);
      }
    }
    return copy;
  }

 private:
  static T FromBf16(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return static_cast<T>(value);
  }
  sdk::Matrix<const T> same_;
  sdk::Matrix<const float> f32_;
  sdk::Matrix<const uint16_t> bf16_;
};

// The teacher's cache of a chunk.
struct TeacherTopK {
  sdk::Matrix<const int32_t> ids;
  sdk::Matrix<const float> log_p, tail;

  TeacherTopK() = default;
  TeacherTopK(const retort_token_loss_args& args, int64_t rows, int64_t vocab) {
    if (args.teacher_logp == nullptr || args.teacher_tail == nullptr) {
      throw sdk::Failure(RETORT_FAILED_PRECONDITION,
                         "teacher_ids came without teacher_logp or teacher_tail");
    }
    ids = sdk::MatrixOf<const int32_t>(*args.teacher_ids, "teacher_ids");
    log_p = sdk::MatrixOf<const float>(*args.teacher_logp, "teacher_logp");
    tail = sdk::MatrixOf<const float>(*args.teacher_tail, "teacher_tail");
    if (ids.rows != rows || log_p.rows != rows || tail.rows != rows || ids.cols != log_p.cols) {
      throw sdk::Failure(RETORT_INVALID_ARGUMENT,
                         "teacher_ids, teacher_logp and teacher_tail must have " +
                             std::to_string(rows) + " rows, and the first two the same columns");
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < ids.cols; ++k) {
        if (ids[r][k] < vocab) continue;
        throw sdk::Failure(RETORT_INVALID_ARGUMENT,
                           "teacher_ids[" + std::to_string(r) + ", " + std::to_string(k) + "] is " +
                               std::to_string(ids[r][k]) + ", outside the vocabulary of " +
                               std::to_string(vocab) + " (-1: unused)");
      }
    }
  }
};

}  // namespace retort::kd
