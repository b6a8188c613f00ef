// A custom op with state, one leaky sum per channel and sequence:
//   y_t = 0.9 y_(t-1) + w x_t        in: x [T,C], w [C]; state: y [C]; saved: x
// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <vector>

#include "probe.h"
#include "retort/abi/draft/op.h"

namespace {

constexpr double kLeak = 0.9;

class Leaky final : public retort::sdk::Instance {
 public:
  explicit Leaky(const retort::sdk::Config& config) : bugs_(config) {
    if (bugs_.Has("rowwise")) table_.flags |= RETORT_OP_ROWWISE;
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_OP_INTERFACE ? &table_ : nullptr;
  }

 private:
  static Leaky& Of(retort_instance* p) { return static_cast<Leaky&>(Instance::Of(p)); }

  static retort_status Infer(retort_instance* p, const retort_call* call, retort_op_shapes* s) {
    const Leaky& self = Of(p);
    if (s->n_in == 0 && self.bugs_.Has("infer")) return RETORT_OK;
    if (s->n_in != 2 || s->n_out != 1 || s->in[0]->ndim != 2 || s->in[1]->ndim != 1 ||
        s->in[0]->shape[1] != s->in[1]->shape[0]) {
      return probe::Fail(call, RETORT_INVALID_ARGUMENT,
                         "takes x [T,C] and w [C], gives one output");
    }
    const bool known = probe::IsF32(*s->in[0]) || probe::IsF64(*s->in[0]);
    if (!known && !self.bugs_.Has("dtype")) {
      return probe::Fail(call, RETORT_UNIMPLEMENTED, "f32 and f64 only");
    }
    const int64_t rows = s->in[0]->shape[0], width = s->in[0]->shape[1];
    const retort_dtype dtype = known ? s->in[0]->dtype : retort_dtype{RETORT_DTYPE_FLOAT, 32, 1};
    for (retort_tensor* t : {&s->out[0], &s->saved[0]}) {
      t->ndim = 2;
      t->dtype = dtype;
      t->shape[0] = rows;
      t->shape[1] = width;
    }
    s->state[0].ndim = 1;
    s->state[0].dtype = dtype;
    s->state[0].shape[0] = width;
    s->n_saved = s->n_state = 1;
    s->backward_in = 1U << 1;
    return RETORT_OK;
  }

  static retort_status Forward(retort_instance* p, const retort_call* call,
                               const retort_op_args* args) {
    const Leaky& self = Of(p);
    if (self.bugs_.Has("growth") && args->struct_size > sizeof(*args)) {
      return probe::Fail(call, RETORT_INVALID_ARGUMENT, "args of another size");
    }
    if (args->in[0]->shape[0] == 0 && self.bugs_.Has("empty")) {
      return probe::Fail(call, RETORT_INVALID_ARGUMENT, "no rows");
    }
    return probe::IsF64(*args->in[0]) ? self.Run<double>(*call, *args)
                                      : self.Run<float>(*call, *args);
  }

  template <class T>
  retort_status Run(const retort_call& call, const retort_op_args& args) const {
    const int64_t rows = args.in[0]->shape[0], width = args.in[0]->shape[1];
    const T* w = probe::Data<T>(args.in[1]);
    T* y = probe::Data<T>(args.out[0]);
    if (args.n_saved > 0 && rows > 0) {
      std::memcpy(args.saved[0]->data, args.in[0]->data,
                  sizeof(T) * static_cast<size_t>(rows * width));
    }
    if (bugs_.Has("inplace")) {
      for (int64_t i = 0; i < rows * width; ++i) y[i] = 0;
    }
    const auto* cu = probe::Data<int32_t>(args.cu_seqlens);
    for (int64_t s = 0; s + 1 < args.cu_seqlens->shape[0]; ++s) {
      std::vector<double> sum(static_cast<size_t>(width), 0);
      T* state = nullptr;
      if (args.n_state > 0) {
        state = probe::Data<T>(args.state[0]) + probe::Data<int32_t>(args.slot)[s] * width;
        for (int64_t c = 0; c < width; ++c) sum[static_cast<size_t>(c)] = double{state[c]};
      }
      const T nudge = Nudge<T>(call, args, s, cu[s]);
      for (int64_t t = cu[s]; t < cu[s + 1]; ++t) {
        for (int64_t c = 0; c < width; ++c) {
          double& at = sum[static_cast<size_t>(c)];
          at = kLeak * at + double{w[c]} * double{probe::Data<T>(args.in[0])[t * width + c]};
          y[t * width + c] = static_cast<T>(at) + nudge;
        }
      }
      for (int64_t c = 0; c < width && state != nullptr; ++c) {
        state[c] = static_cast<T>(sum[static_cast<size_t>(c)]);
      }
    }
    if (bugs_.Has("memory") && rows > 4) y[rows * width] = 0;
    return RETORT_OK;
  }

  template <class T>
  T Nudge(const retort_call& call, const retort_op_args& args, int64_t s, int64_t first) const {
    if (bugs_.Has("sequences")) return T(0.01) * static_cast<T>(s);
    if (bugs_.Has("threads") && call.n_threads > 1) return T(0.01);
    if (bugs_.Has("repeat")) return T(0.01) * static_cast<T>(bugs_.number());
    if (!bugs_.Has("decode") || first >= args.positions->shape[0]) return 0;
    return probe::Data<int32_t>(args.positions)[first] > 0 ? T(0.5) : T(0);
  }

  static retort_status Backward(retort_instance* p, const retort_call*,
                                const retort_op_args* args) {
    return probe::IsF64(*args->d_out[0]) ? Of(p).Back<double>(*args) : Of(p).Back<float>(*args);
  }

  template <class T>
  retort_status Back(const retort_op_args& args) const {
    const int64_t width = args.d_out[0]->shape[1];
    const T *w = probe::Data<T>(args.in[1]), *x = probe::Data<T>(args.saved[0]),
            *d = probe::Data<T>(args.d_out[0]);
    T* dx = args.d_in[0] == nullptr ? nullptr : probe::Data<T>(args.d_in[0]);
    std::vector<double> dw(static_cast<size_t>(width), 0);
    const double factor = bugs_.Has("gradient") ? 1.01 : 1;
    const double nudge = bugs_.Has("outputs") && args.d_in[1] == nullptr ? 0.01 : 0;
    const auto* cu = probe::Data<int32_t>(args.cu_seqlens);
    for (int64_t s = 0; s + 1 < args.cu_seqlens->shape[0]; ++s) {
      std::vector<double> sum(static_cast<size_t>(width), 0);
      for (int64_t t = cu[s + 1] - 1; t >= cu[s]; --t) {
        for (int64_t c = 0; c < width; ++c) {
          double& at = sum[static_cast<size_t>(c)];
          at = kLeak * at + double{d[t * width + c]};
          dw[static_cast<size_t>(c)] += at * double{x[t * width + c]};
          if (dx != nullptr) {
            dx[t * width + c] = static_cast<T>(factor * at * double{w[c]} + nudge);
          }
        }
      }
    }
    for (int64_t c = 0; c < width && args.d_in[1] != nullptr; ++c) {
      probe::Data<T>(args.d_in[1])[c] = static_cast<T>(dw[static_cast<size_t>(c)]);
    }
    return RETORT_OK;
  }

  probe::Bugs bugs_;
  retort_op_v1 table_ = {sizeof(retort_op_v1),
                         RETORT_OP_INPLACE | RETORT_OP_RECOMPUTE_OK,
                         Infer,
                         Forward,
                         Backward,
                         nullptr};
};

RETORT_SDK_REGISTER(RETORT_KIND_OP, "op_probe", Leaky, "a leaky sum with a bug", probe::kSchema);

}  // namespace
