// What a sequence loss promises about its value and its derivatives.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <utility>

#include "host/check/differences.h"
#include "host/check/sequence_loss_rules.h"

namespace retort::host::check::sequence_loss {
namespace {

// What differences of the f64 loss can tell, with f64 inputs, and with f32 ones (whose step is
// exact in f32, but the plugin may compute in f32). Relative to the largest derivative.
struct Precision {
  Elem elem;
  double step, tolerance;
};
constexpr Precision kDouble{Elem::kF64, 1.0 / 8192, 1e-5};
constexpr Precision kSingle{Elem::kF32, 1.0 / 128, 1e-2};

double LargestOf(const Tensor& tensor) {
  double largest = 0;
  for (int64_t i = 0; i < tensor.size(); ++i) largest = std::max(largest, std::fabs(tensor.At(i)));
  return largest;
}

struct Tally {
  int64_t compared = 0, rough = 0;
};

// Compares d, the derivative by the input that `of` picks, at every token.
template <class Pick>
Finding CompareDerivative(const SequenceLoss& loss, const SequenceBatch& batch, const Tensor& d,
                          const Precision& precision, Pick&& of, Tally* tally) {
  SequenceBatch moved = batch;
  Tensor& input = of(moved);
  const double tolerance = precision.tolerance * std::max(1e-6, LargestOf(d));
  for (int64_t t = 0; t < batch.n_tokens_here(); ++t) {
    const double x = input.At(t);
    Status failed;
    const SequenceLoss::How no_derivatives = {
        .wanted = {.logp = false, .entropy = false, .value = false}};
    const Slope slope = SlopeOf(
        [&](double offset) {
          input.Set(t, x + offset);
          if (failed.ok()) failed = loss.Run(&moved, no_derivatives);
          return moved.loss.At(0);
        },
        precision.step);
    RETORT_FAIL_IF_ERROR(failed);
    input.Set(t, x);
    ++(slope.roughness > tolerance ? tally->rough : tally->compared);
    if (slope.roughness > tolerance || std::fabs(d.At(t) - slope.value) <= tolerance) continue;
    return Finding::Fail(d.Where(t) + (batch.masked(t) ? " (masked)" : "") + ": found " +
                         Number(d.At(t)) + ", central differences of the loss give " +
                         Number(slope.value) + " (" + Number(tolerance) + " apart at most), " +
                         input.name() + " is " + Number(x));
  }
  return Finding::Pass();
}

}  // namespace

Finding Derivative(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        if ((spec.flags & RETORT_LOSS_SURROGATE) != 0) {
          return Finding::Skip("its flag SURROGATE says that a part of the loss is held constant");
        }
        Rng rng = subject.Random("sequence_loss.derivative");
        const Precision precision = (spec.flags & RETORT_LOSS_F64) != 0 ? kDouble : kSingle;
        Tally tally;
        for (int round = 0; round < 3; ++round) {
          SequenceBatch batch(spec, kLengths, AllInputs(spec), precision.elem, &rng);
          RETORT_FAIL_IF_ERROR(loss.Run(&batch));
          RETORT_PASS_OR_RETURN(CompareDerivative(
              loss, batch, batch.d_logp, precision,
              [](SequenceBatch& b) -> Tensor& { return b.logp; }, &tally));
          if (batch.Side(RETORT_SEQUENCE_ENTROPY).has_value()) {
            RETORT_PASS_OR_RETURN(CompareDerivative(
                loss, batch, batch.d_entropy, precision,
                [](SequenceBatch& b) -> Tensor& { return *b.Side(RETORT_SEQUENCE_ENTROPY); },
                &tally));
          }
          if (batch.Side(RETORT_SEQUENCE_VALUE).has_value()) {
            RETORT_PASS_OR_RETURN(CompareDerivative(
                loss, batch, batch.d_value, precision,
                [](SequenceBatch& b) -> Tensor& { return *b.Side(RETORT_SEQUENCE_VALUE); },
                &tally));
          }
        }
        if (tally.compared >= tally.rough) return Finding::Pass();
        return Finding::Fail("the loss is not smooth: at " + std::to_string(tally.rough) + " of " +
                             std::to_string(tally.rough + tally.compared) +
                             " inputs its differences over one and two steps disagree");
      });
}

// Without old_logp the ratio is 1 and still has logp's derivative: as with old_logp equal to logp.
Finding OnPolicy(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        if ((spec.optional & RETORT_SEQUENCE_OLD_LOGP) == 0) {
          return Finding::Skip("old_logp is not optional for it");
        }
        Rng rng = subject.Random("sequence_loss.on_policy");
        SequenceBatch equal(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
        SequenceBatch absent = equal;
        for (int64_t t = 0; t < equal.n_tokens_here(); ++t) {
          equal.Side(RETORT_SEQUENCE_OLD_LOGP)->Set(t, equal.logp.At(t));
        }
        absent.Side(RETORT_SEQUENCE_OLD_LOGP).reset();
        RETORT_FAIL_IF_ERROR(loss.Run(&equal));
        RETORT_FAIL_IF_ERROR(loss.Run(&absent));
        for (const auto& [a, b] :
             {std::pair{&absent.loss, &equal.loss}, {&absent.d_logp, &equal.d_logp}}) {
          const std::string text =
              FirstDifference(*a, *b, {1e-5, 1e-6 * std::max(1.0, LargestOf(*b))});
          if (text.empty()) continue;
          return Finding::Fail("without old_logp other results than with old_logp equal to logp: " +
                               text);
        }
        return Finding::Pass();
      });
}

Finding Precisions(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        if ((spec.flags & RETORT_LOSS_F64) == 0) return Finding::Skip("it takes f32 only");
        Rng rng = subject.Random("sequence_loss.precision");
        SequenceBatch exact(spec, kLengths, AllInputs(spec), Elem::kF64, &rng);
        SequenceBatch single = exact.As(Elem::kF32);
        RETORT_FAIL_IF_ERROR(loss.Run(&exact));
        RETORT_FAIL_IF_ERROR(loss.Run(&single));
        const std::vector<Tensor*> found = single.Outputs(), expected = exact.Outputs();
        for (size_t i = 0; i < found.size(); ++i) {
          const Tolerance tolerance{1e-4, 1e-5 * std::max(1e-3, LargestOf(*expected[i]))};
          const std::string text = FirstDifference(*found[i], *expected[i], tolerance);
          if (!text.empty()) return Finding::Fail("with f32 other results than with f64: " + text);
        }
        return Finding::Pass();
      });
}

// Log-probabilities 30 nats apart: their exp is finite in f32.
Finding Finite(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.finite");
        for (const double logp : {0.0, -30.0}) {
          for (const double other : {0.0, -30.0}) {
            SequenceBatch batch(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
            batch.logp.Fill(logp);
            for (const uint64_t bit : {RETORT_SEQUENCE_OLD_LOGP, RETORT_SEQUENCE_REF_LOGP,
                                       RETORT_SEQUENCE_BEHAVIOUR_LOGP}) {
              if (batch.Side(bit).has_value()) batch.Side(bit)->Fill(other);
            }
            if (auto& entropy = batch.Side(RETORT_SEQUENCE_ENTROPY); entropy) entropy->Fill(0);
            RETORT_FAIL_IF_ERROR(loss.Run(&batch));
            for (const Tensor* output : batch.Outputs()) {
              const std::string text = FirstNonFinite(*output);
              if (text.empty()) continue;
              return Finding::Fail(text + "; logp " + Number(logp) +
                                   ", old, reference and behaviour " + Number(other));
            }
          }
        }
        return Finding::Pass();
      });
}

Finding Masked(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.masked");
        SequenceBatch batch(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
        SequenceBatch poisoned = batch;
        for (Tensor* input : poisoned.TokenInputs()) {
          for (int64_t t = 0; t < input->size(); ++t) {
            if (batch.masked(t)) input->Set(t, std::nan(""));
          }
        }
        RETORT_FAIL_IF_ERROR(loss.Run(&batch));
        RETORT_FAIL_IF_ERROR(loss.Run(&poisoned).WithContext("with NaN at masked tokens"));
        const std::vector<Tensor*> clean = batch.Outputs(), found = poisoned.Outputs();
        for (size_t i = 0; i < clean.size(); ++i) {
          for (int64_t t = 0; clean[i]->size() == batch.n_tokens_here() && t < clean[i]->size();
               ++t) {
            if (!batch.masked(t) || clean[i]->At(t) == 0) continue;
            return Finding::Fail(clean[i]->Where(t) + " is " + Number(clean[i]->At(t)) +
                                 ", must be exactly 0: the token is masked");
          }
          const std::string text = FirstDifference(*found[i], *clean[i], kSameBits);
          if (!text.empty()) {
            return Finding::Fail("NaN in the inputs at masked tokens changes the result: " + text);
          }
        }
        return Finding::Pass();
      });
}

Finding Empty(const Subject& subject) {
  return OnSequenceLoss(subject,
                        [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
                          Rng rng = subject.Random("sequence_loss.empty");
                          const std::pair<std::vector<int64_t>, const char*> cases[] = {
                              {{}, "no sequence"},
                              {{0, 0}, "two empty sequences"},
                              {{5, 0, 6, 0}, "empty sequences between others"},
                              {{1, 2, 1, 1}, "every token masked"}};
                          for (const auto& [lengths, name] : cases) {
                            SequenceBatch batch(spec, lengths, AllInputs(spec), Elem::kF32, &rng);
                            RETORT_FAIL_IF_ERROR(loss.Run(&batch).WithContext(name));
                            for (Tensor* output : batch.Outputs()) {
                              std::string text = FirstNonFinite(*output);
                              if (text.empty() && lengths.empty()) text = FirstNotZero(*output);
                              if (!text.empty())
                                return Finding::Fail(std::string(name) + ": " + text);
                            }
                            if (std::string text = batch.Problem(); !text.empty()) {
                              return Finding::Fail(std::string(name) + ": " + text);
                            }
                          }
                          return Finding::Pass();
                        });
}

// Both halves have the same counts and policy weights, so that means over micro-batches add up too.
Finding Parts(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.parts");
        SequenceBatch whole(spec, {7, 12, 3, 9, 7, 12, 3, 9}, AllInputs(spec), Elem::kF32, &rng);
        if (auto& weight = whole.Side(RETORT_SEQUENCE_POLICY_WEIGHT); weight.has_value()) {
          const int64_t half = weight->size() / 2;
          for (int64_t t = 0; t < half; ++t) weight->Set(half + t, weight->At(t));
        }
        SequenceBatch halves[] = {whole.Sequences(0, 4), whole.Sequences(4, 8)};
        RETORT_FAIL_IF_ERROR(loss.Run(&whole));
        SequenceBatch joined = whole;
        joined.loss.Fill(0);
        joined.aux.Fill(0);
        const int64_t middle = halves[0].n_tokens_here();
        for (int half = 0; half < 2; ++half) {
          SequenceBatch& part = halves[half];
          part.accumulation_steps = 2;
          RETORT_FAIL_IF_ERROR(loss.Run(&part));
          joined.loss.Set(0, joined.loss.At(0) + part.loss.At(0));
          for (int64_t i = 0; i < part.aux.size(); ++i) {
            joined.aux.Set(i, joined.aux.At(i) + part.aux.At(i));
          }
          joined.d_logp.SetRows(half * middle, part.d_logp);
          joined.d_entropy.SetRows(half * middle, part.d_entropy);
          joined.d_value.SetRows(half * middle, part.d_value);
        }
        const std::vector<Tensor*> found = joined.Outputs(), expected = whole.Outputs();
        for (size_t i = 0; i < found.size(); ++i) {
          if (expected[i] == &whole.aux) continue;  // counts of calls are legal there
          const Tolerance tolerance{1e-4, 1e-5 * std::max(1e-3, LargestOf(*expected[i]))};
          const std::string text = FirstDifference(*found[i], *expected[i], tolerance);
          if (text.empty()) continue;
          return Finding::Fail(
              "two calls with half of the sequences each, under the same counts, don't add up to "
              "one "
              "call with all: " +
              text);
        }
        return Finding::Pass();
      });
}

}  // namespace retort::host::check::sequence_loss
