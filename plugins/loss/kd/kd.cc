// Distillation from a teacher's distribution over each next token. Per row, with z the student's
// and t the teacher's logits, p = softmax(t / T), q = softmax(z / T), y the label:
//   alpha * s * d(p, q) + (1 - alpha) * (lse(z) - z[y])       s = T^2, or 1 without t_squared
//   forward_kl  sum p log(p / q)         reverse_kl  sum q log(q / p)
//   jsd         beta KL(p || M) + (1 - beta) KL(q || M), M = beta p + (1 - beta) q; at the ends of
//               beta, where that vanishes, 0 is forward_kl and 1 reverse_kl (Agarwal et al.,
//               arXiv 2306.13649, equation 1)
//   total_variation  sum |q - p| / 2
// T^2 keeps the gradient's size over temperatures (Hinton et al., arXiv 1503.02531, section 2).
// The teacher's whole rows come as logits, or as its K likeliest tokens with the mass of the rest
// (top_k.h). Letters: R rows, V vocabulary, K entries of the teacher's cache.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string_view>

#include "retort/kernels/parallel.h"
#include "retort/sdk/loss.h"
#include "teacher.h"
#include "top_k.h"

namespace retort::kd {
namespace {

using sdk::Call;
using sdk::Config;
using sdk::Failure;
using sdk::LossSpec;
using sdk::Matrix;
using sdk::TokenRows;

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "divergence": {"type": "string", "default": "forward_kl",
                   "enum": ["forward_kl", "reverse_kl", "jsd", "total_variation"],
                   "description": "of the student's from the teacher's distribution"},
    "jsd_beta": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5,
                 "description": "the teacher's share in the mixture of jsd; 0 is forward_kl, 1 reverse_kl"},
    "temperature": {"type": "number", "minimum": 0.01, "default": 3,
                    "description": "divides the logits of both sides first"},
    "t_squared": {"type": "boolean", "default": true,
                  "description": "multiply the divergence by the temperature's square"},
    "alpha": {"type": "number", "minimum": 0, "maximum": 1, "default": 1,
              "description": "weight of the divergence; the rest is the cross-entropy of the labels"},
    "teacher_entropy": {"type": "boolean", "default": false,
                        "description": "forward_kl: report the cross-entropy with the teacher; same gradient"},
    "teacher_tail": {"type": "string", "enum": ["bucket", "renormalize", "drop"], "default": "bucket",
                     "description": "top-k teachers: all other tokens as one, both sides over the k only, or nothing for them"}
  }
})";

int32_t DivergenceOf(std::string_view name, double beta) {
  if (name == "forward_kl" || (name == "jsd" && beta == 0)) return RETORT_KERNELS_FORWARD_KL;
  if (name == "reverse_kl" || (name == "jsd" && beta == 1)) return RETORT_KERNELS_REVERSE_KL;
  return name == "jsd" ? RETORT_KERNELS_JSD : RETORT_KERNELS_TOTAL_VARIATION;
}

Tail TailOf(std::string_view name) {
  if (name == "bucket") return Tail::kBucket;
  return name == "renormalize" ? Tail::kRenormalize : Tail::kDrop;
}

class Kd {
 public:
  explicit Kd(const Config& config)
      : beta_(config.Double("jsd_beta")),
        divergence_(DivergenceOf(config.String("divergence"), beta_)),
        temperature_(config.Double("temperature")),
        alpha_(config.Double("alpha")),
        scale_(alpha_ * (config.Bool("t_squared") ? temperature_ * temperature_ : 1)),
        add_entropy_(config.Bool("teacher_entropy")),
        tail_(TailOf(config.String("teacher_tail"))) {
    if (add_entropy_ && divergence_ != RETORT_KERNELS_FORWARD_KL) {
      throw Failure(RETORT_INVALID_ARGUMENT,
                    "/teacher_entropy: only forward_kl has a cross-entropy with the teacher");
    }
  }

  LossSpec Spec() const {
    LossSpec spec{.flags = RETORT_LOSS_F64,
                  .optional = RETORT_TOKEN_TEACHER_LOGITS | RETORT_TOKEN_TEACHER_TOP_K,
                  .aux_names = {"divergence", "agreement", "teacher_entropy"},
                  .teacher_temperature = temperature_};
    if (alpha_ < 1) spec.aux_names.push_back("nll");
    return spec;
  }

  template <class T>
  void Rows(const Call& call, const TokenRows<T>& rows) {
    const retort_token_loss_args& args = *rows.raw;
    Chunk<T> chunk{.self = this, .call = &call, .rows = &rows};
    if (args.teacher_logits != nullptr) {
      chunk.logits = TeacherLogits<T>(*args.teacher_logits, rows.n_rows(), rows.vocab());
    } else if (args.teacher_ids != nullptr) {
      chunk.top_k = TeacherTopK(args, rows.n_rows(), rows.vocab());
      chunk.is_top_k = true;
    } else {
      throw Failure(RETORT_FAILED_PRECONDITION,
                    "there is no teacher: neither teacher_logits nor teacher_ids; use this loss in "
                    "a stage that has one");
    }
    chunk.Reserve();
    retort_parallel_for(chunk.n_tasks, call.n_threads(), &Chunk<T>::RunTask, &chunk);
    call.ThrowIfCancelled();
  }

 private:
  // Rows that stay in the cache, with the teacher's, while they are read several times.
  template <class T>
  static int64_t BlockRows(int64_t vocab) {
    constexpr int64_t kCacheBytes = 512 << 10, kMost = 8;
    const int64_t row_bytes = 2 * vocab * static_cast<int64_t>(sizeof(T));
    return std::clamp<int64_t>(kCacheBytes / std::max<int64_t>(1, row_bytes), 1, kMost);
  }

  // What the tasks share; each writes rows and buffers of its own.
  template <class T>
  struct Chunk {
    const Kd* self;
    const Call* call;
    const TokenRows<T>* rows;
    TeacherLogits<T> logits = {};
    TeacherTopK top_k = {};
    bool is_top_k = false;
    int64_t block = 1, n_blocks = 0, n_tasks = 0;
    std::span<T> students = {}, teachers = {};  // [n_tasks, block, V] each, or empty
    std::span<Class> classes = {};              // [n_tasks, K + 1]

    void Reserve() {
      block = is_top_k ? 1 : BlockRows<T>(rows->vocab());
      n_blocks = (rows->n_rows() + block - 1) / block;
      n_tasks = std::min<int64_t>(std::max(1, call->n_threads()), n_blocks);
      const auto buffer = static_cast<size_t>(n_tasks * block * rows->vocab());
      if (!rows->want_grad) students = call->Scratch<T>(buffer);
      if (!is_top_k && logits.needs_copy()) teachers = call->Scratch<T>(buffer);
      if (is_top_k) {
        classes = call->Scratch<Class>(static_cast<size_t>(n_tasks * (top_k.ids.cols + 1)));
      }
    }
    // Where a task's rows from `first` on may be overwritten.
    Matrix<T> Student(int64_t task, int64_t first, int64_t n) const {
      if (rows->want_grad) return {rows->logits[first], n, rows->vocab(), rows->logits.stride};
      T* copy = students.data() + task * block * rows->vocab();
      for (int64_t i = 0; i < n; ++i) {
        std::copy_n(rows->logits[first + i], rows->vocab(), copy + i * rows->vocab());
      }
      return {copy, n, rows->vocab(), rows->vocab()};
    }
    static void RunTask(void* context, int64_t task) {
      const Chunk& c = *static_cast<const Chunk*>(context);
      const int64_t end = c.n_blocks * (task + 1) / c.n_tasks;
      for (int64_t b = c.n_blocks * task / c.n_tasks; b < end && !c.call->cancelled(); ++b) {
        const int64_t first = b * c.block;
        const int64_t n = std::min(c.block, c.rows->n_rows() - first);
        const Matrix<T> student = c.Student(task, first, n);
        if (c.is_top_k) {
          c.self->TopK(c, task, first, student);
        } else {
          c.self->Block(c, task, first, student);
        }
      }
    }
  };

  // What a row found, before weights: into the outputs.
  struct Found {
    double divergence, nll, teacher_entropy;
    bool agrees;
  };
  template <class T>
  void Put(const TokenRows<T>& rows, int64_t r, const Found& found) const {
    const double d = found.divergence + (add_entropy_ ? found.teacher_entropy : 0);
    const double hard = alpha_ < 1 ? (1 - alpha_) * found.nll : 0;
    *rows.loss[r] = static_cast<T>(scale_ * d + hard);
    if (!rows.aux) return;
    T* aux = rows.aux[r];
    aux[0] = static_cast<T>(found.divergence);
    aux[1] = found.agrees ? T{1} : T{0};
    aux[2] = static_cast<T>(found.teacher_entropy);
    if (alpha_ < 1) aux[3] = static_cast<T>(found.nll);
  }

  template <class T>
  static int64_t LabelOf(const TokenRows<T>& rows, int64_t r) {
    return rows.weight[static_cast<size_t>(r)] == 0 ? -1 : *rows.labels[r];
  }

  template <class T>
  void Block(const Chunk<T>& c, int64_t task, int64_t first, const Matrix<T>& student) const {
    constexpr size_t kMost = 8;
    const TokenRows<T>& rows = *c.rows;
    const int64_t vocab = rows.vocab();
    T* copy = c.teachers.empty() ? nullptr : c.teachers.data() + task * c.block * vocab;
    const T* teacher = c.logits.Rows(first, student.rows, vocab, copy);
    const int64_t teacher_stride = c.logits.stride(vocab);
    int64_t labels[kMost];
    T weight[kMost], divergence[kMost], nll[kMost], entropy[kMost];
    bool agrees[kMost] = {};
    for (int64_t i = 0; i < student.rows; ++i) {
      labels[i] = LabelOf(rows, first + i);
      weight[i] = rows.want_grad ? rows.weight[static_cast<size_t>(first + i)] : T{0};
      if (!rows.aux) continue;
      agrees[i] = Argmax(student[i], vocab) == Argmax(teacher + i * teacher_stride, vocab);
    }
    const bool hard = alpha_ < 1;
    const retort_kd_shape shape = {.rows = student.rows,
                                   .cols = vocab,
                                   .student_stride = student.stride,
                                   .teacher_stride = teacher_stride,
                                   .divergence = divergence_,
                                   .reserved = 0,
                                   .temperature = temperature_,
                                   .jsd_beta = beta_,
                                   .kd_scale = scale_,
                                   .ce_scale = 1 - alpha_};
    const bool want_entropy = rows.aux || add_entropy_;
    KdRows(shape, student.data, teacher, labels, weight, divergence, hard ? nll : nullptr,
           want_entropy ? entropy : nullptr);
    for (int64_t i = 0; i < student.rows; ++i) {
      Put(rows, first + i,
          {double{divergence[i]}, hard ? double{nll[i]} : 0, want_entropy ? double{entropy[i]} : 0,
           agrees[i]});
    }
  }

  template <class T>
  void TopK(const Chunk<T>& c, int64_t task, int64_t r, const Matrix<T>& student) const {
    const TokenRows<T>& rows = *c.rows;
    const int64_t k = c.top_k.ids.cols, vocab = rows.vocab();
    const double weight = double{rows.weight[static_cast<size_t>(r)]};
    const int64_t label = LabelOf(rows, r);
    const int32_t best = rows.aux ? Argmax(student[0], vocab) : -1;
    const TopKInputs in{.divergence = divergence_,
                        .beta = beta_,
                        .temperature = temperature_,
                        .tail = tail_,
                        .kd = weight * scale_,
                        .ce = label >= 0 ? weight * (1 - alpha_) : 0,
                        .want_grad = rows.want_grad && weight != 0,
                        .want_nll = alpha_ < 1,
                        .ids = {c.top_k.ids[r], static_cast<size_t>(k)},
                        .log_p = c.top_k.log_p[r],
                        .log_tail = double{*c.top_k.tail[r]},
                        .label = label};
    const TopKRow<T> row(in, student[0], vocab, c.classes.data() + task * (k + 1));
    if (rows.want_grad && weight == 0) std::fill_n(student[0], vocab, T{0});
    Put(rows, r, {row.divergence, row.nll, row.teacher_entropy, best == row.teacher_best});
  }

  double beta_;
  int32_t divergence_;
  double temperature_, alpha_, scale_;
  bool add_entropy_;
  Tail tail_;
};

RETORT_TOKEN_LOSS("kd", Kd,
                  "distillation from a teacher (forward and reverse KL, JSD, total variation)",
                  kSchema);

}  // namespace
}  // namespace retort::kd
