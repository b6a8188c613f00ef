// What a custom op promises about its shapes, its calls, and the memory of its tensors.
// SPDX-License-Identifier: Apache-2.0
#include "host/check/differences.h"
#include "host/check/op_rules.h"

namespace retort::host::check::op {
namespace {

const std::vector<int64_t> kLengths = {5, 3, 1};

// "" or the first tensor that differs in a bit.
std::string Differ(const std::vector<Tensor>& found, const std::vector<Tensor>& expected) {
  for (size_t i = 0; i < found.size(); ++i) {
    std::string text = FirstDifference(found[i], expected[i], kSameBits);
    if (!text.empty()) return text;
  }
  return "";
}

// Forward and, where there is one, backward.
Status RunBoth(const Op& plugin, OpRun* run, int32_t n_threads = 1) {
  RETORT_RETURN_IF_ERROR(run->Forward(plugin, {.n_threads = n_threads}));
  if (plugin.table().backward == nullptr) return OkStatus();
  return run->Backward(plugin, n_threads);
}

std::string RunsDiffer(const OpRun& found, const OpRun& expected, bool with_backward) {
  std::string text = Differ(found.out, expected.out);
  if (text.empty() && with_backward) text = Differ(found.saved, expected.saved);
  return text.empty() && with_backward ? Differ(found.d_in, expected.d_in) : text;
}

// Same dtypes, numbers of tensors and of dimensions, and the same state.
Finding CompareSizes(const OpShapesCopy& a, const OpShapesCopy& b) {
  const auto same = [](const std::vector<ShapeCopy>& x, const std::vector<ShapeCopy>& y) {
    if (x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i].elem != y[i].elem || x[i].shape.size() != y[i].shape.size()) return false;
    }
    return true;
  };
  if (!same(a.out, b.out) || !same(a.saved, b.saved) || a.state != b.state ||
      a.backward_in != b.backward_in || a.backward_out != b.backward_out) {
    return Finding::Fail(
        "for 5 and for 9 rows infer gives other counts, dtypes, numbers of "
        "dimensions, states or bits; only sizes may depend on T");
  }
  for (size_t i = 0; i < a.out.size(); ++i) {
    if (a.out[i].shape[1] == b.out[i].shape[1]) continue;
    return Finding::Fail("the width of out[" + std::to_string(i) + "] is " +
                         std::to_string(a.out[i].shape[1]) + " for 5 rows and " +
                         std::to_string(b.out[i].shape[1]) + " for 9");
  }
  return Finding::Pass();
}

}  // namespace

Finding Infer(const Subject& subject) {
  RETORT_FIND(const Op plugin, Op::Open(subject));
  if (!plugin.there()) return Finding::Skip("it has no " RETORT_OP_INTERFACE);
  RETORT_FIND(const OpLayout layout, plugin.FindLayout(subject));
  RETORT_FIND(const OpShapesCopy five, plugin.Infer(layout, 5, Elem::kF32));
  RETORT_FIND(const OpShapesCopy nine, plugin.Infer(layout, 9, Elem::kF32));
  RETORT_PASS_OR_RETURN(CompareSizes(five, nine));
  RETORT_FIND(const Op fresh, Op::Open(subject));
  RETORT_FIND(const OpShapesCopy other, fresh.Infer(layout, 5, Elem::kF32));
  RETORT_FIND(const OpShapesCopy again, plugin.Infer(layout, 5, Elem::kF32));
  if (again != five || other != five) {
    return Finding::Fail("infer for the same inputs gives another answer " +
                         std::string(again != five ? "the second time" : "in a fresh instance"));
  }
  RETORT_FIND(const retort_status none, plugin.InferStatus({{}, layout.n_out}, 5, Elem::kF32));
  if (none != RETORT_INVALID_ARGUMENT) {
    return Finding::Fail("infer without any input gave " + StatusName(none) +
                         ", must be INVALID_ARGUMENT (3)");
  }
  return Finding::Pass();
}

Finding Dtypes(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    for (const Elem elem : {Elem::kI8, Elem::kI32}) {
      RETORT_FIND(const retort_status status, plugin.InferStatus(layout, 5, elem));
      if (status == RETORT_UNIMPLEMENTED) continue;
      return Finding::Fail(std::string("infer for inputs of ") + ElemName(elem) + " gave " +
                           StatusName(status) + ", must be UNIMPLEMENTED (12)");
    }
    return Finding::Pass();
  });
}

Finding Memory(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    Rng rng = subject.Random("op.memory");
    RETORT_FIND(OpRun run, MakeRun(plugin, layout, kLengths, Elem::kF32, &rng));
    for (const bool with_state : {false, true}) {
      if (with_state && run.state.empty()) continue;
      const OpRun::How how = {.with_state = with_state};
      RETORT_FAIL_IF_ERROR(run.Forward(plugin, how));
      const std::string text = run.ForwardProblem(how);
      if (!text.empty()) return Finding::Fail("forward: " + text);
    }
    if (plugin.table().backward == nullptr) return Finding::Pass();
    RETORT_FAIL_IF_ERROR(run.Backward(plugin));
    const std::string text = run.BackwardProblem();
    return text.empty() ? Finding::Pass() : Finding::Fail("backward: " + text);
  });
}

Finding Outputs(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    Rng rng = subject.Random("op.outputs");
    RETORT_FIND(OpRun all, MakeRun(plugin, layout, kLengths, Elem::kF32, &rng));
    OpRun unsaved = all;
    RETORT_FAIL_IF_ERROR(RunBoth(plugin, &all));
    RETORT_FAIL_IF_ERROR(unsaved.Forward(plugin, {.keep_saved = false}));
    if (std::string text = Differ(unsaved.out, all.out); !text.empty()) {
      return Finding::Fail("forward with n_saved 0 (no backward follows): " + text);
    }
    if (plugin.table().backward == nullptr) return Finding::Pass();
    for (size_t i = 0; i < layout.in.size(); ++i) {
      OpRun some = all;
      some.want_d_in[i] = false;
      const std::string what = "backward with d_in[" + std::to_string(i) + "] NULL";
      RETORT_FAIL_IF_ERROR(some.Backward(plugin).WithContext(what));
      some.d_in[i] = all.d_in[i];
      const std::string text = Differ(some.d_in, all.d_in);
      if (!text.empty()) return Finding::Fail(what + ": " + text);
    }
    return Finding::Pass();
  });
}

Finding Threads(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    Rng rng = subject.Random("op.threads");
    RETORT_FIND(const OpRun start, MakeRun(plugin, layout, {41, 26, 7}, Elem::kF32, &rng));
    const bool with_backward = plugin.table().backward != nullptr;
    OpRun one = start;
    RETORT_FAIL_IF_ERROR(RunBoth(plugin, &one));
    for (const int32_t n : {2, 3, 8}) {
      OpRun several = start;
      RETORT_FAIL_IF_ERROR(RunBoth(plugin, &several, n));
      const std::string text = RunsDiffer(several, one, with_backward);
      if (text.empty()) continue;
      return Finding::Fail("with n_threads " + std::to_string(n) +
                           " other bits than with 1: " + text);
    }
    return Finding::Pass();
  });
}

Finding Repeat(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    Rng rng = subject.Random("op.repeat");
    RETORT_FIND(const OpRun start, MakeRun(plugin, layout, kLengths, Elem::kF32, &rng));
    RETORT_FIND(const Op fresh, Op::Open(subject));
    RETORT_FAIL_IF_ERROR(fresh.Infer(layout, SumOf(kLengths), Elem::kF32).status());
    const bool with_backward = plugin.table().backward != nullptr;
    OpRun first = start, second = start, third = start;
    RETORT_FAIL_IF_ERROR(RunBoth(plugin, &first));
    RETORT_FAIL_IF_ERROR(RunBoth(plugin, &second));
    RETORT_FAIL_IF_ERROR(RunBoth(fresh, &third));
    if (std::string text = RunsDiffer(second, first, with_backward); !text.empty()) {
      return Finding::Fail("the same call again gives other bits: " + text);
    }
    const std::string text = RunsDiffer(third, first, with_backward);
    if (text.empty()) return Finding::Pass();
    return Finding::Fail("the same call to a fresh instance gives other bits: " + text);
  });
}

Finding Grown(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    Rng rng = subject.Random("op.growth");
    RETORT_FIND(OpRun now, MakeRun(plugin, layout, kLengths, Elem::kF32, &rng));
    const bool with_backward = plugin.table().backward != nullptr;
    OpRun later = now;
    RETORT_FAIL_IF_ERROR(RunBoth(plugin, &now));
    const char* what = "structs 64 bytes larger";
    RETORT_FAIL_IF_ERROR(later.Forward(plugin, {.growth = Growth::kGrown}).WithContext(what));
    if (with_backward) {
      RETORT_FAIL_IF_ERROR(later.Backward(plugin, 1, Growth::kGrown).WithContext(what));
    }
    const std::string text = RunsDiffer(later, now, with_backward);
    if (text.empty()) return Finding::Pass();
    return Finding::Fail("with structs 64 bytes larger, as of a later host: " + text);
  });
}

Finding InPlace(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    if (!plugin.has(RETORT_OP_INPLACE)) return Finding::Skip("it does not say INPLACE");
    Rng rng = subject.Random("op.inplace");
    RETORT_FIND(const OpShapesCopy shapes, plugin.Infer(layout, SumOf(kLengths), Elem::kF32));
    RETORT_FIND(OpRun apart, MakeRun(plugin, layout, kLengths, Elem::kF32, &rng));
    if (!layout.is_value(0) || apart.out[0].shape() != apart.in[0].shape()) {
      return Finding::Fail("it says INPLACE, but out[0] has another shape than in[0]");
    }
    if ((shapes.backward_in & 1) != 0) {
      return Finding::Skip("backward reads in[0]: the host never gives out[0] its memory");
    }
    OpRun together = apart;
    RETORT_FAIL_IF_ERROR(RunBoth(plugin, &apart));
    RETORT_FAIL_IF_ERROR(together.Forward(plugin, {.in_place = true}));
    const bool with_backward = plugin.table().backward != nullptr;
    if (with_backward) RETORT_FAIL_IF_ERROR(together.Backward(plugin));
    const std::string text = RunsDiffer(together, apart, with_backward);
    if (text.empty()) return Finding::Pass();
    return Finding::Fail("with out[0] in the memory of in[0] other results: " + text);
  });
}

Finding Empty(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    Rng rng = subject.Random("op.empty");
    const std::vector<int64_t> cases[] = {{}, {0, 0}, {0, 3, 0}};
    for (const std::vector<int64_t>& lengths : cases) {
      const std::string what = std::to_string(lengths.size()) + " sequences of " +
                               std::to_string(SumOf(lengths)) + " rows";
      RETORT_FIND(OpRun run, MakeRun(plugin, layout, lengths, Elem::kF32, &rng));
      RETORT_FAIL_IF_ERROR(RunBoth(plugin, &run).WithContext(what));
      std::string text = run.ForwardProblem({});
      if (text.empty() && plugin.table().backward != nullptr) text = run.BackwardProblem();
      if (!text.empty()) return Finding::Fail(what + ": " + text);
    }
    return Finding::Pass();
  });
}

}  // namespace retort::host::check::op
