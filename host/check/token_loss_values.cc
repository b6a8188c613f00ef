// What a token loss promises about values and gradients.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <utility>

#include "host/check/differences.h"
#include "host/check/token_loss_rules.h"

namespace retort::host::check::token_loss {
namespace {

// What f64 differences of f64 losses can tell, and those of f32 losses.
struct Precision {
  Elem elem;
  double step, tolerance;
};
constexpr Precision kDouble{Elem::kF64, 2e-4, 1e-6};
constexpr Precision kSingle{Elem::kF32, 1.0 / 32, 2e-3};

Precision BestOf(const retort_loss_spec& spec) {
  return (spec.flags & RETORT_LOSS_F64) != 0 ? kDouble : kSingle;
}

std::string ShapeName(const TokenBatch& batch) {
  return "R " + std::to_string(batch.n_rows()) + ", V " + std::to_string(batch.vocab()) + ", " +
         ElemName(batch.logits.elem());
}

// Columns of a row worth a look: the label's, the ends, and random ones.
std::vector<int64_t> Columns(const TokenBatch& batch, int64_t row, Rng* rng) {
  const int64_t vocab = batch.vocab();
  std::vector<int64_t> columns = {static_cast<int64_t>(batch.labels.At(row)), 0, vocab - 1};
  for (int i = 0; i < 3; ++i) {
    columns.push_back(static_cast<int64_t>(rng->Below(static_cast<uint64_t>(vocab))));
  }
  std::sort(columns.begin(), columns.end());
  columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
  return columns;
}

// Counts what was compared and what lies too near to a kink of the loss to be.
struct Tally {
  int64_t compared = 0, rough = 0;
};

Finding CompareGradient(const TokenLoss& loss, const TokenBatch& batch, const Precision& precision,
                        Rng* rng, Tally* tally) {
  TokenBatch whole = batch, moved = batch;
  RETORT_FAIL_IF_ERROR(loss.Run(&whole));
  const double tolerance = precision.tolerance * std::max(1.0, batch.LargestWeight());
  for (int64_t r = 0; r < batch.n_rows(); ++r) {
    for (const int64_t v : Columns(batch, r, rng)) {
      const int64_t at = r * batch.vocab() + v;
      Status failed;
      const Slope slope = SlopeOf(
          [&](double offset) {
            moved.logits.Set(at, batch.logits.At(at) + offset);
            if (failed.ok()) failed = loss.Run(&moved, {.want_grad = false, .want_aux = false});
            return moved.WeightedLoss();
          },
          precision.step);
      RETORT_FAIL_IF_ERROR(failed);
      moved.logits.Set(at, batch.logits.At(at));
      ++(slope.roughness > tolerance ? tally->rough : tally->compared);
      const double found = whole.logits.At(at);
      if (slope.roughness > tolerance || std::fabs(found - slope.value) <= tolerance) continue;
      return Finding::Fail("gradient at " + batch.logits.Where(at) + " of " + ShapeName(batch) +
                           ": found " + Number(found) + ", central differences of the loss give " +
                           Number(slope.value) + " (" + Number(tolerance) +
                           " apart at most), label " + Number(batch.labels.At(r)) + ", weight " +
                           Number(batch.weight.At(r)));
    }
  }
  return Finding::Pass();
}

}  // namespace

Finding Gradient(const Subject& subject) {
  return OnTokenLoss(subject, [&](const TokenLoss& loss, const retort_loss_spec& spec) {
    if ((spec.flags & RETORT_LOSS_SURROGATE) != 0) {
      return Finding::Skip("its flag SURROGATE says that a part of the loss is held constant");
    }
    Rng rng = subject.Random("token_loss.gradient");
    const Precision precision = BestOf(spec);
    Tally tally;
    for (const uint64_t inputs : InputSets(spec)) {
      for (const auto& [rows, vocab] :
           {std::pair<int64_t, int64_t>{1, 1}, {3, 2}, {6, 7}, {5, 33}, {3, 1000}}) {
        const TokenBatch batch(spec, {rows, vocab, precision.elem, 0}, inputs, &rng);
        RETORT_PASS_OR_RETURN(CompareGradient(loss, batch, precision, &rng, &tally));
      }
    }
    if (tally.compared >= tally.rough) return Finding::Pass();
    return Finding::Fail("the loss is not smooth: at " + std::to_string(tally.rough) + " of " +
                         std::to_string(tally.rough + tally.compared) +
                         " logits its differences over one and two steps disagree");
  });
}

Finding Precisions(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        if ((spec.flags & (RETORT_LOSS_F64 | RETORT_LOSS_BF16)) == 0) {
          return Finding::Skip("it takes f32 logits only");
        }
        Rng rng = subject.Random("token_loss.precision");
        for (const Elem elem : {Elem::kF64, Elem::kBF16}) {
          const bool is_double = elem == Elem::kF64;
          if ((spec.flags & (is_double ? RETORT_LOSS_F64 : RETORT_LOSS_BF16)) == 0) continue;
          TokenBatch single(spec, {7, 129, Elem::kF32, 0}, inputs, &rng);
          for (int64_t i = 0; i < single.logits.size() && !is_double; ++i) {
            single.logits.Set(i, RoundToBf16(single.logits.At(i)));
          }
          TokenBatch other = single.As(elem);
          RETORT_FAIL_IF_ERROR(loss.Run(&single));
          RETORT_FAIL_IF_ERROR(loss.Run(&other));
          const double each = is_double ? 1e-5 : 1.0 / 128;
          const Tolerance tolerance{10 * each, each * single.LargestWeight()};
          for (const auto& [a, b] :
               {std::pair{&single.loss, &other.loss}, {&single.logits, &other.logits}}) {
            const std::string text =
                is_double ? FirstDifference(*a, *b, tolerance) : FirstDifference(*b, *a, tolerance);
            if (!text.empty()) {
              return Finding::Fail(
                  std::string("f32 and ") + ElemName(elem) +
                  " give different results (after a call with WANT_GRAD): " + text);
            }
          }
        }
        return Finding::Pass();
      });
}

namespace {

// Rows of logits at the ends of what occurs.
void SetExtreme(int which, Tensor* logits) {
  const int64_t vocab = logits->shape()[1];
  for (int64_t i = 0; i < logits->size(); ++i) {
    const int64_t v = i % vocab;
    double x = 0;
    if (which == 1) x = 1e4;
    if (which == 2) x = -1e4;
    if (which == 3) x = v == 0 ? 1e4 : -1e4;
    if (which == 4) x = v == vocab - 1 ? -1e4 : 1e4;
    if (which == 5) x = v % 2 == 0 ? 1e4 : -1e4;
    logits->Set(i, x);
  }
}
constexpr const char* kExtremes[] = {"all 0",
                                     "all 1e4",
                                     "all -1e4",
                                     "the first 1e4, the rest -1e4",
                                     "the last -1e4, the rest 1e4",
                                     "1e4 and -1e4 in turn"};

}  // namespace

Finding Finite(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        Rng rng = subject.Random("token_loss.finite");
        for (const int64_t vocab : {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{33}}) {
          for (int which = 0; which < 6; ++which) {
            TokenBatch batch(spec, {5, vocab, Elem::kF32, 0}, inputs, &rng);
            SetExtreme(which, &batch.logits);
            batch.weight.Set(4, 1e3);
            RETORT_FAIL_IF_ERROR(loss.Run(&batch));
            for (const Tensor* tensor : {&batch.loss, &batch.logits, &batch.aux}) {
              const std::string text = FirstNonFinite(*tensor);
              if (text.empty()) continue;
              const char* what = tensor == &batch.logits ? "the gradient in " : "";
              return Finding::Fail(what + text + "; V " + std::to_string(vocab) +
                                   ", logits: " + kExtremes[which]);
            }
          }
        }
        return Finding::Pass();
      });
}

Finding ZeroWeight(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        Rng rng = subject.Random("token_loss.zero_weight");
        for (const bool all : {false, true}) {
          TokenBatch batch(spec, {9, 13, Elem::kF32, 3}, inputs, &rng);
          for (int64_t r = 0; r < batch.n_rows(); ++r) {
            if (!all && r % 2 == 0) continue;
            batch.weight.Set(r, 0);
            batch.labels.Set(r, -100);
          }
          RETORT_FAIL_IF_ERROR(loss.Run(&batch).WithContext("rows of weight 0 with label -100"));
          for (int64_t i = 0; i < batch.logits.size(); ++i) {
            const int64_t r = i / batch.vocab();
            if (batch.weight.At(r) != 0 || batch.logits.At(i) == 0) continue;
            return Finding::Fail("row " + std::to_string(r) +
                                 " has weight 0, but its gradient at " + batch.logits.Where(i) +
                                 " is " + Number(batch.logits.At(i)) + ", must be exactly 0");
          }
        }
        return Finding::Pass();
      });
}

Finding Weight(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        Rng rng = subject.Random("token_loss.weight");
        TokenBatch once(spec, {8, 17, Elem::kF32, 0}, inputs, &rng);
        TokenBatch scaled = once;
        for (int64_t r = 0; r < scaled.n_rows(); ++r) scaled.weight.Set(r, -2 * once.weight.At(r));
        RETORT_FAIL_IF_ERROR(loss.Run(&once));
        RETORT_FAIL_IF_ERROR(loss.Run(&scaled));
        const double largest = scaled.LargestWeight();
        const std::string text = FirstDifference(scaled.loss, once.loss, {1e-5, 1e-6});
        if (!text.empty()) return Finding::Fail("the loss depends on the weight: " + text);
        for (int64_t i = 0; i < once.logits.size(); ++i) once.logits.Set(i, -2 * once.logits.At(i));
        const std::string gradient =
            FirstDifference(scaled.logits, once.logits, {1e-5, 1e-6 * largest});
        if (gradient.empty()) return Finding::Pass();
        return Finding::Fail("with weights times -2 the gradient is not -2 times what it was: " +
                             gradient);
      });
}

namespace {

// Cuts that the spec's grain allows.
std::vector<int64_t> CutsOf(const retort_loss_spec& spec, int64_t rows) {
  if (spec.grain == RETORT_GRAIN_SEQUENCE) return {0, 3, 9, rows};
  return {0, 1, 6, 10, rows};
}

}  // namespace

Finding Chunks(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        if (spec.grain == RETORT_GRAIN_GROUP) {
          return Finding::Skip("grain GROUP: its rows come in one call");
        }
        Rng rng = subject.Random("token_loss.chunks");
        for (const int64_t vocab : {int64_t{7}, int64_t{130}}) {
          const TokenBatch batch(spec, {19, vocab, Elem::kF32, 0}, inputs, &rng);
          TokenBatch whole = batch, parts = batch;
          RETORT_FAIL_IF_ERROR(loss.Run(&whole));
          const std::vector<int64_t> cuts = CutsOf(spec, batch.n_rows());
          for (size_t i = 0; i + 1 < cuts.size(); ++i) {
            TokenBatch part = batch.Rows(cuts[i], cuts[i + 1]);
            RETORT_FAIL_IF_ERROR(loss.Run(&part));
            parts.logits.SetRows(cuts[i], part.logits);
            parts.loss.SetRows(cuts[i], part.loss);
            parts.aux.SetRows(cuts[i], part.aux);
          }
          const Tolerance tolerance{1e-5, 1e-6 * batch.LargestWeight()};
          for (const auto& [a, b] : {std::pair{&parts.loss, &whole.loss},
                                     {&parts.logits, &whole.logits},
                                     {&parts.aux, &whole.aux}}) {
            const std::string text = FirstDifference(*a, *b, tolerance);
            if (text.empty()) continue;
            return Finding::Fail("19 rows in several calls give other results than in one: " +
                                 text);
          }
        }
        return Finding::Pass();
      });
}

}  // namespace retort::host::check::token_loss
