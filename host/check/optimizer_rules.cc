// What an optimizer promises: pure specs, state that is all there is, cuts and threads without
// influence.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "host/check/differences.h"
#include "host/check/optimizer_slot.h"
#include "host/check/rule.h"

namespace retort::host::check {
namespace {

constexpr int64_t kSteps = 3;

// run(optimizer) on a fresh instance; a plugin without the interface is skipped.
template <class Fn>
Finding OnOptimizer(const Subject& subject, Fn&& run) {
  RETORT_FIND(const Optimizer optimizer, Optimizer::Open(subject));
  if (!optimizer.there()) return Finding::Skip("it has no " RETORT_OPTIMIZER_INTERFACE);
  return run(optimizer);
}

// New gradients for the coming step, the same for every copy of a slot.
void DrawGradients(std::span<Slot> slots, int64_t step, const Subject& subject) {
  Rng rng = subject.Random("optimizer.gradient " + std::to_string(step));
  for (Slot& slot : slots) slot.grad.Randomise(&rng, 1);
}

// Steps [first, first + kSteps) with gradients of their own.
Status RunSteps(const Optimizer& optimizer, std::span<Slot> slots, int64_t first,
                const Subject& subject, const Optimizer::How& how = {}) {
  for (int64_t step = first; step < first + kSteps; ++step) {
    DrawGradients(slots, step, subject);
    RETORT_RETURN_IF_ERROR(optimizer.Step(slots, step, how));
  }
  return OkStatus();
}

// Passes if all are equal to the bit; else what differs, after `context`.
Finding SameSlots(std::span<const Slot> found, std::span<const Slot> expected,
                  const std::string& context) {
  for (size_t i = 0; i < found.size(); ++i) {
    const std::string text = SlotsDiffer(found[i], expected[i]);
    if (!text.empty()) return Finding::Fail(context + text);
  }
  return Finding::Pass();
}

Result<std::vector<Slot>> StartSlots(const Optimizer& optimizer, const Subject& subject) {
  Rng rng = subject.Random("optimizer.params");
  return optimizer.Slots(SomeParams(), &rng);
}

Finding Spec(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(const Optimizer fresh, Optimizer::Open(subject));
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    const auto again = [&](const Optimizer& from, const char* when) -> Finding {
      for (const Slot& slot : slots) {
        RETORT_FIND(const OptimizerSpecCopy spec, from.Spec(slot.description));
        if (spec == slot.spec) continue;
        return Finding::Fail("the spec of " + slot.description.name + " is another " + when +
                             "; it must be a pure function of the config and the param");
      }
      return Finding::Pass();
    };
    RETORT_PASS_OR_RETURN(again(optimizer, "when it is asked for again"));
    RETORT_PASS_OR_RETURN(again(fresh, "in a fresh instance"));
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, slots, 1, subject));
    return again(optimizer, "after some steps");
  });
}

Finding Update(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    const std::vector<Slot> start = slots;
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, slots, 1, subject));
    for (size_t i = 0; i < slots.size(); ++i) {
      for (const Tensor* tensor : slots[i].Outputs()) {
        if (std::string text = FirstNonFinite(*tensor); !text.empty()) return Finding::Fail(text);
      }
      if (!FirstDifference(slots[i].param, start[i].param).empty()) continue;
      return Finding::Fail(slots[i].param.name() + " is unchanged after " + std::to_string(kSteps) +
                           " steps with gradients and learning rates "
                           "above 0");
    }
    return Finding::Pass();
  });
}

Finding Memory(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    for (Slot& slot : slots) {
      slot.low_precision.emplace("low_precision of " + slot.description.name, Elem::kBF16,
                                 slot.param.shape());
    }
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, slots, 1, subject));
    for (const Slot& slot : slots) {
      if (std::string text = slot.Damage(); !text.empty()) return Finding::Fail(text);
    }
    return Finding::Pass();
  });
}

// Every shard at an instance of its own, as at the ranks of a run.
Finding Shards(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(std::vector<Slot> all, StartSlots(optimizer, subject));
    bool any = false;
    for (Slot& slot : all) {
      if (slot.spec.grain != RETORT_GRAIN_ELEMENTWISE) continue;
      const int64_t size = slot.param.size(), unit = slot.Unit();
      std::vector<int64_t> cuts = {0};
      for (const int64_t cut : {unit, 3 * unit}) {
        if (cut < size) cuts.push_back(cut);
      }
      cuts.push_back(size);
      RETORT_FIND(const Optimizer whole_rank, Optimizer::Open(subject));
      Slot whole = slot, joined = slot;
      RETORT_FIND(const OptimizerSpecCopy unused, whole_rank.Spec(slot.description));
      any = any || unused == slot.spec;
      for (size_t c = 0; c + 1 < cuts.size(); ++c) {
        RETORT_FIND(const Optimizer rank, Optimizer::Open(subject));
        RETORT_FAIL_IF_ERROR(rank.Spec(slot.description).status());
        Slot shard = slot.Shard(cuts[c], cuts[c + 1]), gradients = slot;
        for (int64_t step = 1; step <= kSteps; ++step) {
          DrawGradients({&gradients, 1}, step, subject);
          shard.grad = gradients.grad.Rows(cuts[c], cuts[c + 1]);
          RETORT_FAIL_IF_ERROR(rank.Step({&shard, 1}, step));
        }
        joined.param.SetRows(cuts[c], shard.param);
        for (size_t i = 0; i < shard.states.size(); ++i) {
          const bool per_block = slot.spec.states[i].shape == RETORT_STATE_SHAPE_PER_BLOCK;
          const auto block = per_block ? static_cast<int64_t>(slot.spec.states[i].block) : 1;
          joined.states[i].SetRows(cuts[c] / block, shard.states[i]);
        }
      }
      RETORT_FAIL_IF_ERROR(RunSteps(whole_rank, {&whole, 1}, 1, subject));
      const std::string text = SlotsDiffer(joined, whole);
      if (text.empty()) continue;
      return Finding::Fail("cut into " + std::to_string(cuts.size() - 1) + " shards, first at " +
                           std::to_string(cuts[1]) + ", it gives other bits than whole: " + text);
    }
    return any ? Finding::Pass() : Finding::Skip("its grain is WHOLE: params are never cut");
  });
}

Finding Threads(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(std::vector<Slot> one, StartSlots(optimizer, subject));
    const std::vector<Slot> start = one;
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, one, 1, subject));
    for (const int32_t n : {2, 3, 8}) {
      RETORT_FIND(const Optimizer other, Optimizer::Open(subject));
      RETORT_FIND(std::vector<Slot> several, StartSlots(other, subject));
      RETORT_FAIL_IF_ERROR(RunSteps(other, several, 1, subject, {.n_threads = n}));
      for (size_t i = 0; i < one.size(); ++i) {
        const std::string text = SlotsDiffer(several[i], one[i]);
        if (text.empty()) continue;
        return Finding::Fail("with n_threads " + std::to_string(n) +
                             " other bits than with 1: " + text);
      }
    }
    return Finding::Pass();
  });
}

Finding Continues(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    if ((optimizer.table().save == nullptr) != (optimizer.table().load == nullptr)) {
      return Finding::Fail("of save and load one is NULL; they must be both or neither");
    }
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, slots, 1, subject));
    RETORT_FIND(const Optimizer fresh, Optimizer::Open(subject));
    for (const Slot& slot : slots) RETORT_FAIL_IF_ERROR(fresh.Spec(slot.description).status());
    if (optimizer.has_scalars()) {
      RETORT_FIND(const std::string bytes, optimizer.Save());
      RETORT_FIND(const retort_status status, fresh.Load(bytes, 3));
      if (status != RETORT_OK) {
        return Finding::Fail("load of the " + std::to_string(bytes.size()) +
                             " bytes that save wrote gave " + StatusName(status));
      }
    }
    std::vector<Slot> continued = slots;
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, slots, 1 + kSteps, subject));
    RETORT_FAIL_IF_ERROR(RunSteps(fresh, continued, 1 + kSteps, subject));
    return SameSlots(continued, slots,
                     "a fresh instance with the same state " +
                         std::string(optimizer.has_scalars() ? "(loaded from save) " : "") +
                         "goes on differently: ");
  });
}

Finding LoadGarbage(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    if (optimizer.table().load == nullptr || optimizer.table().save == nullptr) {
      return Finding::Skip("it has no scalar state");
    }
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, slots, 1, subject));
    RETORT_FIND(const std::string saved, optimizer.Save());
    Rng rng = subject.Random("optimizer.load");
    std::string random(saved.size() + 61, '\0');
    for (char& byte : random) byte = static_cast<char>(rng.Below(256));
    std::vector<std::string> cases = {random, saved + "x"};
    if (!saved.empty()) {
      cases.push_back(saved.substr(0, saved.size() - 1));
      cases.emplace_back();
    }
    for (const std::string& bytes : cases) {
      RETORT_FIND(const Optimizer fresh, Optimizer::Open(subject));
      RETORT_FIND(const retort_status status, fresh.Load(bytes, 0));
      if (status == RETORT_DATA_LOSS) continue;
      return Finding::Fail("load of " + std::to_string(bytes.size()) +
                           " bytes that save did not write (it wrote " +
                           std::to_string(saved.size()) + ") gave " + StatusName(status) +
                           ", must be DATA_LOSS (15)");
    }
    return Finding::Pass();
  });
}

// A power of two, so that scaling by hand rounds nothing.
Finding GradScale(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    RETORT_FIND(const Optimizer other, Optimizer::Open(subject));
    RETORT_FIND(std::vector<Slot> by_hand, StartSlots(other, subject));
    constexpr double kScale = 0.125;
    for (int64_t step = 1; step <= kSteps; ++step) {
      DrawGradients(slots, step, subject);
      DrawGradients(by_hand, step, subject);
      for (Slot& slot : by_hand) {
        for (int64_t i = 0; i < slot.grad.size(); ++i) slot.grad.Set(i, kScale * slot.grad.At(i));
      }
      RETORT_FAIL_IF_ERROR(optimizer.Step(slots, step, {.grad_scale = kScale}));
      RETORT_FAIL_IF_ERROR(other.Step(by_hand, step));
    }
    for (size_t i = 0; i < slots.size(); ++i) {
      const std::vector<const Tensor*> found = slots[i].Outputs(), expected = by_hand[i].Outputs();
      for (size_t k = 0; k < found.size(); ++k) {
        const std::string text = FirstDifference(*found[k], *expected[k], {1e-5, 1e-7});
        if (text.empty()) continue;
        return Finding::Fail(
            "with grad_scale 0.125 other results than with gradients times 0.125: " + text);
      }
    }
    return Finding::Pass();
  });
}

Finding LowPrecision(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    for (Slot& slot : slots) {
      slot.low_precision.emplace("low_precision of " + slot.description.name, Elem::kBF16,
                                 slot.param.shape());
    }
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, slots, 1, subject));
    for (const Slot& slot : slots) {
      Tensor expected = slot.param.As(Elem::kBF16);
      const std::string text = FirstDifference(*slot.low_precision, expected, kSameBits);
      if (text.empty()) continue;
      return Finding::Fail(text + ": the param after the step, rounded to nearest, ties to even");
    }
    return Finding::Pass();
  });
}

Finding Groups(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    RETORT_FIND(const Optimizer other, Optimizer::Open(subject));
    RETORT_FIND(std::vector<Slot> swapped, StartSlots(other, subject));
    for (Slot& slot : swapped) slot.description.group = 1 - slot.description.group;
    const Optimizer::How how{};
    Optimizer::How reversed{};
    std::swap(reversed.learning_rate[0], reversed.learning_rate[1]);
    std::swap(reversed.weight_decay[0], reversed.weight_decay[1]);
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, slots, 1, subject, how));
    RETORT_FAIL_IF_ERROR(RunSteps(other, swapped, 1, subject, reversed));
    return SameSlots(
        swapped, slots,
        "with both groups swapped in params, learning_rate and weight_decay other results: ");
  });
}

Finding Alone(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    if (optimizer.has_scalars()) {
      return Finding::Skip("it has scalar state, which may join the tensors of a call");
    }
    RETORT_FIND(std::vector<Slot> together, StartSlots(optimizer, subject));
    std::vector<Slot> alone = together;
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, together, 1, subject));
    RETORT_FIND(const Optimizer other, Optimizer::Open(subject));
    for (const Slot& slot : alone) RETORT_FAIL_IF_ERROR(other.Spec(slot.description).status());
    for (int64_t step = 1; step <= kSteps; ++step) {
      DrawGradients(alone, step, subject);
      for (Slot& slot : alone) RETORT_FAIL_IF_ERROR(other.Step({&slot, 1}, step));
    }
    return SameSlots(together, alone,
                     "several tensors in one call (at a stride larger than the struct) give other "
                     "bits than one per call: ");
  });
}

Finding Grown(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(std::vector<Slot> now, StartSlots(optimizer, subject));
    RETORT_FIND(const Optimizer other, Optimizer::Open(subject));
    RETORT_FIND(std::vector<Slot> later, StartSlots(other, subject));
    RETORT_FAIL_IF_ERROR(RunSteps(optimizer, now, 1, subject));
    RETORT_FAIL_IF_ERROR(RunSteps(other, later, 1, subject, {.growth = Growth::kGrown})
                             .WithContext("structs 64 bytes larger"));
    return SameSlots(later, now, "with structs 64 bytes larger, as of a later host: ");
  });
}

Finding Empty(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FAIL_IF_ERROR(optimizer.Step({}, 1).WithContext("without a tensor"));
    RETORT_FIND(std::vector<Slot> slots, StartSlots(optimizer, subject));
    for (Slot& slot : slots) {
      if (slot.spec.grain != RETORT_GRAIN_ELEMENTWISE) continue;
      Slot nothing = slot.Shard(0, 0);
      RETORT_FAIL_IF_ERROR(optimizer.Step({&nothing, 1}, 1).WithContext("a shard of 0 elements"));
      if (std::string text = nothing.Damage(); !text.empty()) {
        return Finding::Fail("a shard of 0 elements: " + text);
      }
    }
    return Finding::Pass();
  });
}

Finding Dtypes(const Subject& subject) {
  return OnOptimizer(subject, [&](const Optimizer& optimizer) -> Finding {
    RETORT_FIND(const std::vector<Slot> slots, StartSlots(optimizer, subject));
    const auto expect = [&](Slot slot, const std::string& what) -> Finding {
      RETORT_FIND(const retort_status status, optimizer.StepBroken({&slot, 1}));
      if (status == RETORT_UNIMPLEMENTED) return Finding::Pass();
      return Finding::Fail(what + ": step gave " + StatusName(status) +
                           ", must be UNIMPLEMENTED (12)");
    };
    for (const Elem elem : {Elem::kF16, Elem::kF64}) {
      Slot slot = slots[1];
      slot.param = slot.param.As(elem);
      RETORT_PASS_OR_RETURN(expect(slot, std::string("a param of ") + ElemName(elem)));
    }
    Slot elsewhere = slots[1];
    elsewhere.param.get()->device.type = RETORT_DEVICE_CUDA;
    elsewhere.grad.get()->device.type = RETORT_DEVICE_CUDA;
    return expect(elsewhere, "a param on a CUDA device in a call for the CPU");
  });
}

constexpr Rule kRules[] = {
    {"optimizer.spec", "R5", "spec is legal, and a pure function of the config and the param",
     "answer from the config and retort_param_info alone; see retort_state_spec for what is legal",
     Spec},
    {"optimizer.update", "R6", "finite gradients move every param, to finite values",
     "update param in place; guard roots and divisions with eps", Update},
    {"optimizer.memory", "R6", "only param, states, grad and low_precision are written, in bounds",
     "write as many elements as the tensor's shape says; a shard is smaller than the param",
     Memory},
    {"optimizer.shards", "R6", "with ELEMENTWISE, cut params give the bits of whole ones",
     "let an element depend on itself and its block only, or declare grain WHOLE", Shards},
    {"optimizer.threads", "R8", "n_threads does not change a bit",
     "add up in a fixed order, whatever the number of threads", Threads},
    {"optimizer.continues", "R6", "a fresh instance with the same state goes on with the same bits",
     "keep nothing between steps but the declared states and what save writes", Continues},
    {"optimizer.load", "R7", "bytes that save did not write are DATA_LOSS",
     "write a magic number and a length in save, compare them in load, and expect the end",
     LoadGarbage},
    {"optimizer.grad_scale", "R6", "gradients are multiplied by grad_scale first",
     "read grad_scale[0] (NULL: 1) and multiply before anything else, norms and moments too",
     GradScale},
    {"optimizer.low_precision", "R6", "low_precision gets the new param, rounded to nearest even",
     "round the updated param to bf16 and write it wherever low_precision is not NULL",
     LowPrecision},
    {"optimizer.groups", "R6", "learning_rate and weight_decay are those of the param's group",
     "index both arrays by info->group", Groups},
    {"optimizer.tensors", "R3", "tensors of one call are independent, and walked by their stride",
     "advance by tensor_stride bytes; keep nothing from one tensor to the next", Alone},
    {"optimizer.growth", "R3", "argument structs may be larger than it knows",
     "refuse a struct only where it is smaller than in the first version", Grown},
    {"optimizer.empty", "R6", "no tensors, and shards without elements, are fine",
     "return OK for n 0; touch no data of a tensor without elements", Empty},
    {"optimizer.dtype", "R6", "a dtype or device that it does not take is UNIMPLEMENTED",
     "look at dtype and device before you touch data", Dtypes},
};

}  // namespace

std::span<const Rule> OptimizerRules() { return kRules; }

}  // namespace retort::host::check
