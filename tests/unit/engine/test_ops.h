// Ops behind hand-written C tables, and the factory that knows them: what a plugin would bring.
// Each works in f32 and f64. Legend: T rows, W width, S sequences.
//   tanh      y = tanh(x); backward reads the output alone
//   mix       x [T,W], y [T,W], w [W] -> x*y*w and x + 2y; saves x*y per row and w as it was
//   decay     s = a*s + x within each sequence, y = s; state [W]; attribute "a"
//   one_way   tanh without backward
//   carried   decay without decode: forward goes on from the state
//   stuck     decay without decode and without state
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "core/graph/custom_op.h"

namespace retort::engine::test {

struct TestOp {
  double a = 0.5;
  int32_t fail_at = -1;  // forward fails at this step
  bool stateless = false;
};

inline const TestOp& TestOpOf(retort_instance* p) { return *reinterpret_cast<const TestOp*>(p); }

inline retort_status Fail(const retort_call* call, retort_status status, const char* text) {
  call->error(call->ctx, status, ToStr(text));
  return status;
}

// fn(T{}) by the dtype of in[0].
template <class Fn>
retort_status ByDType(const retort_tensor& t, Fn&& fn) {
  if (t.dtype.bits == 64) {
    fn(double{});
  } else {
    fn(float{});
  }
  return RETORT_OK;
}
template <class T>
T* Data(const retort_tensor* t) {
  return static_cast<T*>(t->data);
}
inline int64_t Numel(const retort_tensor& t) {
  int64_t n = 1;
  for (int32_t d = 0; d < t.ndim; ++d) n *= t.shape[d];
  return n;
}
inline void SetShape(retort_tensor& t, retort_dtype dtype, std::initializer_list<int64_t> dims) {
  t.ndim = static_cast<int32_t>(dims.size());
  t.dtype = dtype;
  std::copy(dims.begin(), dims.end(), t.shape);
}

inline retort_op_v1 TanhTable() {
  return {
      .struct_size = sizeof(retort_op_v1),
      .flags = RETORT_OP_ROWWISE | RETORT_OP_RECOMPUTE_OK,
      .infer = [](retort_instance*, const retort_call* call, retort_op_shapes* s) -> retort_status {
        if (s->n_in != 1 || s->n_out != 1) {
          return Fail(call, RETORT_INVALID_ARGUMENT, "tanh takes one input");
        }
        SetShape(s->out[0], s->in[0]->dtype, {s->in[0]->shape[0], s->in[0]->shape[1]});
        s->backward_out = 1;
        return RETORT_OK;
      },
      .forward = [](retort_instance* p, const retort_call* call,
                    const retort_op_args* a) -> retort_status {
        if (call->step >= 0 && call->step == TestOpOf(p).fail_at) {
          return Fail(call, RETORT_DATA_LOSS, "it broke");
        }
        return ByDType(*a->in[0], [&]<class T>(T) {
          for (int64_t i = 0; i < Numel(*a->in[0]); ++i) {
            Data<T>(a->out[0])[i] = std::tanh(Data<T>(a->in[0])[i]);
          }
        });
      },
      .backward = [](retort_instance*, const retort_call* call,
                     const retort_op_args* a) -> retort_status {
        if (a->in[0] != nullptr) return Fail(call, RETORT_INTERNAL, "undeclared input");
        return ByDType(*a->out[0], [&]<class T>(T) {
          for (int64_t i = 0; i < Numel(*a->out[0]); ++i) {
            const T y = Data<T>(a->out[0])[i];
            Data<T>(a->d_in[0])[i] = Data<T>(a->d_out[0])[i] * (1 - y * y);
          }
        });
      },
      .decode = nullptr};
}

template <class T>
void MixForward(const retort_op_args& a) {
  const int64_t rows = a.in[0]->shape[0], width = a.in[0]->shape[1];
  for (int64_t i = 0; i < rows * width; ++i) {
    const T x = Data<T>(a.in[0])[i], y = Data<T>(a.in[1])[i], w = Data<T>(a.in[2])[i % width];
    if (a.n_saved > 0) {
      Data<T>(a.saved[0])[i] = x * y;
      Data<T>(a.saved[1])[i % width] = w;
    }
    Data<T>(a.out[0])[i] = x * y * w;
    Data<T>(a.out[1])[i] = x + 2 * y;
  }
}
template <class T>
void MixBackward(const retort_op_args& a) {
  const int64_t rows = a.d_out[0]->shape[0], width = a.d_out[0]->shape[1];
  if (a.d_in[2] != nullptr) std::fill_n(Data<T>(a.d_in[2]), width, T{0});
  for (int64_t i = 0; i < rows * width; ++i) {
    const T x = Data<T>(a.in[0])[i], y = Data<T>(a.in[1])[i], w = Data<T>(a.saved[1])[i % width];
    const T d0 = Data<T>(a.d_out[0])[i], d1 = Data<T>(a.d_out[1])[i];
    Data<T>(a.d_in[0])[i] = d0 * y * w + d1;
    Data<T>(a.d_in[1])[i] = d0 * x * w + 2 * d1;
    if (a.d_in[2] != nullptr) Data<T>(a.d_in[2])[i % width] += d0 * Data<T>(a.saved[0])[i];
  }
}
inline retort_op_v1 MixTable() {
  return {
      .struct_size = sizeof(retort_op_v1),
      .flags = RETORT_OP_ROWWISE,
      .infer = [](retort_instance*, const retort_call* call, retort_op_shapes* s) -> retort_status {
        if (s->n_in != 3 || s->n_out != 2) {
          return Fail(call, RETORT_INVALID_ARGUMENT, "mix takes x, y and w, and gives two");
        }
        const int64_t rows = s->in[0]->shape[0], width = s->in[0]->shape[1];
        const retort_dtype dtype = s->in[0]->dtype;
        for (int k = 0; k < 2; ++k) SetShape(s->out[k], dtype, {rows, width});
        s->n_saved = 2;
        SetShape(s->saved[0], dtype, {rows, width, 1});
        SetShape(s->saved[1], dtype, {width});
        s->backward_in = 3;
        return RETORT_OK;
      },
      .forward = [](retort_instance*, const retort_call*, const retort_op_args* a)
          -> retort_status { return ByDType(*a->in[0], [&]<class T>(T) { MixForward<T>(*a); }); },
      .backward = [](retort_instance*, const retort_call*,
                     const retort_op_args* a) -> retort_status {
        return ByDType(*a->d_out[0], [&]<class T>(T) { MixBackward<T>(*a); });
      },
      .decode = nullptr};
}

// state NULL: from zero.
template <class T>
void DecayForward(const TestOp& op, const retort_op_args& a, T* state) {
  const int64_t width = a.in[0]->shape[1], n = a.cu_seqlens->shape[0] - 1;
  const int32_t* cu = Data<int32_t>(a.cu_seqlens);
  for (int64_t s = 0; s < n; ++s) {
    for (int64_t c = 0; c < width; ++c) {
      T* kept = state == nullptr ? nullptr : state + Data<int32_t>(a.slot)[s] * width + c;
      T sum = kept == nullptr ? T{0} : *kept;
      for (int64_t t = cu[s]; t < cu[s + 1]; ++t) {
        sum = static_cast<T>(op.a) * sum + Data<T>(a.in[0])[t * width + c];
        Data<T>(a.out[0])[t * width + c] = sum;
      }
      if (kept != nullptr) *kept = sum;
    }
  }
}
template <class T>
void DecayBackward(const TestOp& op, const retort_op_args& a) {
  const int64_t width = a.d_out[0]->shape[1], n = a.cu_seqlens->shape[0] - 1;
  const int32_t* cu = Data<int32_t>(a.cu_seqlens);
  for (int64_t s = 0; s < n; ++s) {
    for (int64_t c = 0; c < width; ++c) {
      T sum = 0;
      for (int64_t t = cu[s + 1]; t-- > cu[s];) {
        sum = static_cast<T>(op.a) * sum + Data<T>(a.d_out[0])[t * width + c];
        Data<T>(a.d_in[0])[t * width + c] = sum;
      }
    }
  }
}
inline retort_op_v1 DecayTable() {
  return {
      .struct_size = sizeof(retort_op_v1),
      .flags = 0,
      .infer = [](retort_instance* p, const retort_call*, retort_op_shapes* s) -> retort_status {
        SetShape(s->out[0], s->in[0]->dtype, {s->in[0]->shape[0], s->in[0]->shape[1]});
        if (TestOpOf(p).stateless) return RETORT_OK;
        s->n_state = 1;
        SetShape(s->state[0], s->in[0]->dtype, {s->in[0]->shape[1]});
        return RETORT_OK;
      },
      .forward = [](retort_instance* p, const retort_call*,
                    const retort_op_args* a) -> retort_status {
        return ByDType(*a->in[0], [&]<class T>(T) {
          DecayForward<T>(TestOpOf(p), *a, a->n_state > 0 ? Data<T>(a->state[0]) : nullptr);
        });
      },
      .backward = [](retort_instance* p, const retort_call*,
                     const retort_op_args* a) -> retort_status {
        return ByDType(*a->d_out[0], [&]<class T>(T) { DecayBackward<T>(TestOpOf(p), *a); });
      },
      .decode = [](retort_instance* p, const retort_call*,
                   const retort_op_args* a) -> retort_status {
        return ByDType(*a->in[0],
                       [&]<class T>(T) { DecayForward<T>(TestOpOf(p), *a, Data<T>(a->state[0])); });
      }};
}

class TestHandle final : public graph::OpHandle {
 public:
  TestHandle(retort_op_v1 table, TestOp op) : table_(table), op_(op) {}
  const retort_op_v1& table() const override { return table_; }
  retort_instance* instance() const override {
    return reinterpret_cast<retort_instance*>(const_cast<TestOp*>(&op_));
  }

 private:
  retort_op_v1 table_;
  TestOp op_;
};

// Attributes are read as {"a":NUMBER} or {"fail_at":NUMBER}.
inline Result<std::unique_ptr<graph::OpHandle>> MakeTestOp(const std::string& id,
                                                           const std::string& attributes) {
  retort_op_v1 table{};
  if (id == "tanh" || id == "one_way") table = TanhTable();
  if (id == "mix") table = MixTable();
  if (id == "decay" || id == "stuck" || id == "carried") table = DecayTable();
  if (table.infer == nullptr) return NotFound("there is no op \"" + id + "\"");
  if (id == "one_way") table.backward = nullptr;
  if (id == "stuck" || id == "carried") table.decode = nullptr;
  TestOp op;
  op.stateless = id == "stuck";
  const auto number = [&](const char* key, double fallback) {
    const size_t at = attributes.find(key);
    return at == std::string::npos
               ? fallback
               : std::strtod(attributes.c_str() + at + std::string(key).size(), nullptr);
  };
  op.a = number("\"a\":", op.a);
  op.fail_at = static_cast<int32_t>(number("\"fail_at\":", -1));
  return std::unique_ptr<graph::OpHandle>(std::make_unique<TestHandle>(table, op));
}

}  // namespace retort::engine::test
