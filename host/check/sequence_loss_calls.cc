// What a sequence loss promises about its spec, its calls, and the memory of its tensors.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "host/check/differences.h"
#include "host/check/loss_spec.h"
#include "host/check/sequence_loss_rules.h"

namespace retort::host::check::sequence_loss {
namespace {

constexpr uint64_t kSideInputs = (RETORT_SEQUENCE_VALUE_AFTER << 1) - 1;

// "" or the first output of `found` that differs in a bit.
std::string ResultsDiffer(SequenceBatch* found, SequenceBatch* expected) {
  const std::vector<Tensor*> a = found->Outputs(), b = expected->Outputs();
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::string text = FirstDifference(*a[i], *b[i], kSameBits); !text.empty()) return text;
  }
  return "";
}

}  // namespace

Finding Spec(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        RETORT_PASS_OR_RETURN(CheckSpec(&spec, kSideInputs));
        const SpecCopy first(spec);
        Rng rng = subject.Random("sequence_loss.spec");
        SequenceBatch batch(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
        RETORT_FAIL_IF_ERROR(loss.Run(&batch));
        RETORT_PASS_OR_RETURN(CheckSpec(loss.spec(), kSideInputs));
        RETORT_PASS_OR_RETURN(CheckSameSpec(first, SpecCopy(*loss.spec()), "after a call of eval"));
        RETORT_FIND(const SequenceLoss other, SequenceLoss::Open(subject));
        RETORT_PASS_OR_RETURN(CheckSpec(other.spec(), kSideInputs));
        return CheckSameSpec(first, SpecCopy(*other.spec()), "in a fresh instance");
      });
}

Finding Memory(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.memory");
        SequenceBatch batch(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
        RETORT_FAIL_IF_ERROR(loss.Run(&batch));
        if (std::string text = batch.Problem(); !text.empty()) return Finding::Fail(text);
        for (const Tensor* output : batch.Outputs()) {
          const std::string text = FirstNonFinite(*output);
          if (!text.empty())
            return Finding::Fail(text + "; every element of an output is to be set");
        }
        for (int64_t k = 0; k < batch.aux.shape()[0]; ++k) {
          if (batch.aux.At(2 * k + 1) >= 0) continue;
          return Finding::Fail(batch.aux.Where(2 * k + 1) + " is " +
                               Number(batch.aux.At(2 * k + 1)) + "; a count must be at least 0");
        }
        return Finding::Pass();
      });
}

Finding Outputs(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.outputs");
        const SequenceBatch batch(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
        SequenceBatch all = batch;
        RETORT_FAIL_IF_ERROR(loss.Run(&all));
        const std::pair<SequenceBatch::Wanted, const char*> cases[] = {
            {{.logp = false}, "d_logp NULL"},
            {{.entropy = false}, "d_entropy NULL"},
            {{.value = false}, "d_value NULL"},
            {{.logp = false, .entropy = false, .value = false}, "no derivative wanted"}};
        for (const auto& [wanted, name] : cases) {
          SequenceBatch some = batch;
          RETORT_FAIL_IF_ERROR(loss.Run(&some, {.wanted = wanted}).WithContext(name));
          if (!wanted.logp) some.d_logp = all.d_logp;
          if (!wanted.entropy) some.d_entropy = all.d_entropy;
          if (!wanted.value) some.d_value = all.d_value;
          const std::string text = ResultsDiffer(&some, &all);
          if (!text.empty()) return Finding::Fail(std::string(name) + ": " + text);
        }
        return Finding::Pass();
      });
}

Finding Threads(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.threads");
        const std::vector<int64_t> lengths(40, 33);
        const SequenceBatch batch(spec, lengths, AllInputs(spec), Elem::kF32, &rng);
        SequenceBatch one = batch;
        RETORT_FAIL_IF_ERROR(loss.Run(&one));
        for (const int32_t n : {2, 3, 8}) {
          SequenceBatch several = batch;
          RETORT_FAIL_IF_ERROR(loss.Run(&several, {.n_threads = n}));
          const std::string text = ResultsDiffer(&several, &one);
          if (text.empty()) continue;
          return Finding::Fail("with n_threads " + std::to_string(n) +
                               " other bits than with 1: " + text);
        }
        return Finding::Pass();
      });
}

Finding Repeat(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.repeat");
        const SequenceBatch batch(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
        RETORT_FIND(const SequenceLoss fresh, SequenceLoss::Open(subject));
        SequenceBatch first = batch, second = batch, third = batch;
        RETORT_FAIL_IF_ERROR(loss.Run(&first));
        RETORT_FAIL_IF_ERROR(loss.Run(&second));
        RETORT_FAIL_IF_ERROR(fresh.Run(&third));
        if (std::string text = ResultsDiffer(&second, &first); !text.empty()) {
          return Finding::Fail("the same call again gives other bits: " + text);
        }
        const std::string text = ResultsDiffer(&third, &first);
        if (text.empty()) return Finding::Pass();
        return Finding::Fail("the same call to a fresh instance gives other bits: " + text);
      });
}

Finding Grown(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.growth");
        SequenceBatch now(spec, kLengths, AllInputs(spec), Elem::kF32, &rng), later = now;
        RETORT_FAIL_IF_ERROR(loss.Run(&now));
        RETORT_FAIL_IF_ERROR(
            loss.Run(&later, {.growth = Growth::kGrown}).WithContext("structs 64 bytes larger"));
        const std::string text = ResultsDiffer(&later, &now);
        if (text.empty()) return Finding::Pass();
        return Finding::Fail("with structs 64 bytes larger, as of a later host: " + text);
      });
}

Finding Dtypes(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.dtype");
        const SequenceBatch batch(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
        for (const Elem elem : {Elem::kF16, Elem::kBF16, Elem::kF64}) {
          if (elem == Elem::kF64 && (spec.flags & RETORT_LOSS_F64) != 0) continue;
          SequenceBatch other = batch.As(elem);
          RETORT_FIND(const retort_status status, loss.RunBroken(&other));
          if (status == RETORT_UNIMPLEMENTED) continue;
          return Finding::Fail(std::string(ElemName(elem)) + " in place of f32: eval gave " +
                               StatusName(status) + ", must be UNIMPLEMENTED (12)");
        }
        return Finding::Pass();
      });
}

Finding SideInputs(const Subject& subject) {
  return OnSequenceLoss(
      subject, [&](const SequenceLoss& loss, const retort_loss_spec& spec) -> Finding {
        Rng rng = subject.Random("sequence_loss.side_inputs");
        for (uint64_t bit = 1; bit <= RETORT_SEQUENCE_VALUE_AFTER; bit <<= 1) {
          if ((AllInputs(spec) & bit) == 0) continue;
          // Values of either kind come in one place.
          const uint64_t side = bit == RETORT_SEQUENCE_VALUE_AFTER ? RETORT_SEQUENCE_VALUE : bit;
          SequenceBatch batch(spec, kLengths, AllInputs(spec), Elem::kF32, &rng);
          batch.Side(side).reset();
          const std::string name = SequenceInputName(side);
          if ((spec.needs & bit) != 0) {
            RETORT_FIND(const retort_status status, loss.RunBroken(&batch));
            if (status == RETORT_FAILED_PRECONDITION) continue;
            return Finding::Fail("eval without " + name + ", which the spec says it needs, gave " +
                                 StatusName(status) + ", must be FAILED_PRECONDITION (9)");
          }
          RETORT_FAIL_IF_ERROR(loss.Run(&batch).WithContext("without " + name));
          for (const Tensor* output : batch.Outputs()) {
            const std::string text = FirstNonFinite(*output);
            if (text.empty()) continue;
            return Finding::Fail("without " + name + ", which is optional: " + text);
          }
        }
        return Finding::Pass();
      });
}

}  // namespace retort::host::check::sequence_loss
