// What a token loss promises about its spec, its calls, and the memory of its tensors.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "host/check/differences.h"
#include "host/check/loss_spec.h"
#include "host/check/token_loss_rules.h"

namespace retort::host::check::token_loss {
namespace {

constexpr uint64_t kSideInputs = RETORT_TOKEN_TEACHER_LOGITS | RETORT_TOKEN_TEACHER_TOP_K |
                                 RETORT_TOKEN_SEQUENCE_ID | RETORT_TOKEN_POSITION;

// "" or the first result of `found` that differs from `expected`.
std::string ResultsDiffer(const TokenBatch& found, const TokenBatch& expected,
                          Tolerance tolerance) {
  for (const auto& [a, b] : {std::pair{&found.loss, &expected.loss},
                             {&found.logits, &expected.logits},
                             {&found.aux, &expected.aux}}) {
    if (std::string text = FirstDifference(*a, *b, tolerance); !text.empty()) return text;
  }
  return "";
}

}  // namespace

Finding Spec(const Subject& subject) {
  return OnTokenLoss(subject, [&](const TokenLoss& loss, const retort_loss_spec& spec) -> Finding {
    RETORT_PASS_OR_RETURN(CheckSpec(&spec, kSideInputs));
    const SpecCopy first(spec);
    Rng rng = subject.Random("token_loss.spec");
    TokenBatch batch(spec, {3, 7}, InputSets(spec)[0], &rng);
    RETORT_FAIL_IF_ERROR(loss.Run(&batch));
    RETORT_PASS_OR_RETURN(CheckSpec(loss.spec(), kSideInputs));
    RETORT_PASS_OR_RETURN(CheckSameSpec(first, SpecCopy(*loss.spec()), "after a call of rows"));
    RETORT_FIND(const TokenLoss other, TokenLoss::Open(subject));
    RETORT_PASS_OR_RETURN(CheckSpec(other.spec(), kSideInputs));
    return CheckSameSpec(first, SpecCopy(*other.spec()), "in a fresh instance");
  });
}

Finding Memory(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        Rng rng = subject.Random("token_loss.memory");
        const TokenShape shapes[] = {
            {3, 7}, {3, 7, Elem::kF32, 5}, {1, 1, Elem::kF32, 3}, {9, 33, Elem::kF32, 31}, {0, 7}};
        for (const TokenShape& shape : shapes) {
          const TokenBatch batch(spec, shape, inputs, &rng);
          for (const bool want_grad : {true, false}) {
            const std::string what = "R " + std::to_string(shape.rows) + ", V " +
                                     std::to_string(shape.vocab) + ", " +
                                     std::to_string(shape.pad) + " elements between rows" +
                                     (want_grad ? ", WANT_GRAD" : "");
            TokenBatch used = batch;
            RETORT_FAIL_IF_ERROR(loss.Run(&used, {.want_grad = want_grad}).WithContext(what));
            const std::string problem = used.Problem(want_grad);
            if (!problem.empty()) return Finding::Fail(what + ": " + problem);
            TokenBatch dense = batch.As(shape.elem, 0);
            RETORT_FAIL_IF_ERROR(loss.Run(&dense, {.want_grad = want_grad}).WithContext(what));
            const std::string text = ResultsDiffer(used, dense, {1e-5, 1e-6});
            if (text.empty()) continue;
            return Finding::Fail(what +
                                 ": other results than without bytes between the rows: " + text);
          }
        }
        return Finding::Pass();
      });
}

Finding Outputs(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        Rng rng = subject.Random("token_loss.outputs");
        const TokenBatch batch(spec, {7, 19}, inputs, &rng);
        TokenBatch all = batch, no_aux = batch, no_grad = batch;
        RETORT_FAIL_IF_ERROR(loss.Run(&all));
        RETORT_FAIL_IF_ERROR(loss.Run(&no_aux, {.want_aux = false}).WithContext("aux NULL"));
        RETORT_FAIL_IF_ERROR(loss.Run(&no_grad, {.want_grad = false}).WithContext("no WANT_GRAD"));
        if (std::string text = FirstNonFinite(all.aux); !text.empty()) return Finding::Fail(text);
        const Tolerance tolerance{1e-5, 1e-6};
        const std::pair<std::string, const char*> found[] = {
            {FirstDifference(no_aux.loss, all.loss, tolerance), "with aux NULL"},
            {FirstDifference(no_aux.logits, all.logits, tolerance), "with aux NULL, the gradient"},
            {FirstDifference(no_grad.loss, all.loss, tolerance), "without WANT_GRAD"},
            {FirstDifference(no_grad.aux, all.aux, tolerance), "without WANT_GRAD"}};
        for (const auto& [text, when] : found) {
          if (!text.empty()) return Finding::Fail(std::string(when) + ": " + text);
        }
        return Finding::Pass();
      });
}

Finding Threads(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        Rng rng = subject.Random("token_loss.threads");
        const TokenBatch batch(spec, {41, 65}, inputs, &rng);
        TokenBatch one = batch;
        RETORT_FAIL_IF_ERROR(loss.Run(&one));
        for (const int32_t n : {2, 3, 8}) {
          TokenBatch several = batch;
          RETORT_FAIL_IF_ERROR(loss.Run(&several, {.n_threads = n}));
          const std::string text = ResultsDiffer(several, one, kSameBits);
          if (text.empty()) continue;
          return Finding::Fail("with n_threads " + std::to_string(n) +
                               " other bits than with 1: " + text);
        }
        return Finding::Pass();
      });
}

Finding Repeat(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        Rng rng = subject.Random("token_loss.repeat");
        const TokenBatch batch(spec, {7, 33}, inputs, &rng);
        RETORT_FIND(const TokenLoss fresh, TokenLoss::Open(subject));
        TokenBatch first = batch, second = batch, third = batch;
        RETORT_FAIL_IF_ERROR(loss.Run(&first));
        RETORT_FAIL_IF_ERROR(loss.Run(&second));
        RETORT_FAIL_IF_ERROR(fresh.Run(&third));
        if (std::string text = ResultsDiffer(second, first, kSameBits); !text.empty()) {
          return Finding::Fail("the same call again gives other bits: " + text);
        }
        const std::string text = ResultsDiffer(third, first, kSameBits);
        if (text.empty()) return Finding::Pass();
        return Finding::Fail("the same call to a fresh instance gives other bits: " + text);
      });
}

Finding Grown(const Subject& subject) {
  return OnEachTeacher(
      subject,
      [&](const TokenLoss& loss, const retort_loss_spec& spec, uint64_t inputs) -> Finding {
        Rng rng = subject.Random("token_loss.growth");
        TokenBatch now = TokenBatch(spec, {7, 33}, inputs, &rng), later = now;
        RETORT_FAIL_IF_ERROR(loss.Run(&now));
        RETORT_FAIL_IF_ERROR(
            loss.Run(&later, {.growth = Growth::kGrown}).WithContext("structs 64 bytes larger"));
        const std::string text = ResultsDiffer(later, now, kSameBits);
        if (text.empty()) return Finding::Pass();
        return Finding::Fail("with structs 64 bytes larger, as of a later host: " + text);
      });
}

Finding Labels(const Subject& subject) {
  return OnTokenLoss(subject, [&](const TokenLoss& loss, const retort_loss_spec& spec) -> Finding {
    Rng rng = subject.Random("token_loss.labels");
    for (const double label : {7.0, -1.0, -100.0, 1e15}) {
      TokenBatch batch(spec, {3, 7}, InputSets(spec)[0], &rng);
      batch.labels.Set(1, label);
      RETORT_FIND(const retort_status status, loss.RunBroken(batch.Args(true)));
      if (status == RETORT_INVALID_ARGUMENT) continue;
      return Finding::Fail("label " + Number(label) + " with V 7 at weight " +
                           Number(batch.weight.At(1)) + ": rows gave " + StatusName(status) +
                           ", must be INVALID_ARGUMENT (3)");
    }
    return Finding::Pass();
  });
}

Finding Dtypes(const Subject& subject) {
  return OnTokenLoss(subject, [&](const TokenLoss& loss, const retort_loss_spec& spec) -> Finding {
    Rng rng = subject.Random("token_loss.dtypes");
    const TokenBatch batch(spec, {3, 7}, InputSets(spec)[0], &rng);
    for (const Elem elem : {Elem::kF16, Elem::kI8, Elem::kBF16, Elem::kF64}) {
      if (elem == Elem::kBF16 && (spec.flags & RETORT_LOSS_BF16) != 0) continue;
      if (elem == Elem::kF64 && (spec.flags & RETORT_LOSS_F64) != 0) continue;
      TokenBatch other = batch.As(elem);
      RETORT_FIND(const retort_status status, loss.RunBroken(other.Args(true)));
      if (status == RETORT_UNIMPLEMENTED) continue;
      return Finding::Fail(std::string(ElemName(elem)) + " logits: rows gave " +
                           StatusName(status) + ", must be UNIMPLEMENTED (12)");
    }
    TokenBatch elsewhere = batch;
    elsewhere.logits.get()->device.type = RETORT_DEVICE_CUDA;
    RETORT_FIND(const retort_status status, loss.RunBroken(elsewhere.Args(true)));
    if (status == RETORT_UNIMPLEMENTED) return Finding::Pass();
    return Finding::Fail("logits on a CUDA device in a call for the CPU: rows gave " +
                         StatusName(status) + ", must be UNIMPLEMENTED (12)");
  });
}

Finding SideInputs(const Subject& subject) {
  return OnTokenLoss(subject, [&](const TokenLoss& loss, const retort_loss_spec& spec) -> Finding {
    Rng rng = subject.Random("token_loss.side_inputs");
    const std::vector<uint64_t> sets = InputSets(spec);
    // A loss that takes a teacher in either form can't run without any.
    const bool either = sets.size() > 1 || sets[0] != (spec.needs | spec.optional);
    const uint64_t teachers = RETORT_TOKEN_TEACHER_LOGITS | RETORT_TOKEN_TEACHER_TOP_K;
    for (uint64_t bit = 1; bit <= RETORT_TOKEN_POSITION; bit <<= 1) {
      if (((spec.needs | spec.optional) & bit) == 0) continue;
      const bool needed = (spec.needs & bit) != 0;
      if (!needed && either && (bit & teachers) != 0) continue;
      TokenBatch batch(spec, {6, 11}, sets[0] & ~bit, &rng);
      if (!needed) {
        RETORT_FAIL_IF_ERROR(loss.Run(&batch).WithContext("without " + InputName(bit)));
        if (std::string text = FirstNonFinite(batch.loss); !text.empty()) {
          return Finding::Fail("without " + InputName(bit) + ", which is optional: " + text);
        }
        continue;
      }
      RETORT_FIND(const retort_status status, loss.RunBroken(batch.Args(true)));
      if (status != RETORT_OK) continue;
      return Finding::Fail("rows without " + InputName(bit) +
                           ", which the spec says it needs, gave"
                           " OK; it must fail (FAILED_PRECONDITION), or the bit is optional");
    }
    return Finding::Pass();
  });
}

}  // namespace retort::host::check::token_loss
