// What a custom op promises about its results: derivatives, sequences, rows, decoding.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>

#include "host/check/differences.h"
#include "host/check/op_rules.h"

namespace retort::host::check::op {
namespace {

constexpr int64_t kCoordinates = 24;  // of each input
constexpr double kNobody = 3.5;       // in state rows of no sequence

double LargestOf(const Tensor& tensor) {
  double largest = 0;
  for (int64_t i = 0; i < tensor.size(); ++i) largest = std::max(largest, std::fabs(tensor.At(i)));
  return largest;
}

struct Tally {
  int64_t compared = 0, rough = 0;
};

Finding CompareInput(const Op& plugin, const OpRun& run, size_t input, Rng* rng, Tally* tally) {
  const bool is_double = run.in[input].elem() == Elem::kF64;
  const double step = is_double ? 1e-4 : 1.0 / 32;
  const Tensor& d = run.d_in[input];
  const double tolerance = (is_double ? 1e-6 : 1e-2) * std::max(1.0, LargestOf(d));
  OpRun moved = run;
  for (int64_t k = 0; k < std::min(kCoordinates, d.size()); ++k) {
    const auto at = static_cast<int64_t>(rng->Below(static_cast<uint64_t>(d.size())));
    const double x = run.in[input].At(at);
    Status failed;
    const Slope slope = SlopeOf(
        [&](double offset) {
          moved.in[input].Set(at, x + offset);
          if (failed.ok()) failed = moved.Forward(plugin);
          return moved.Scalar();
        },
        step);
    RETORT_FAIL_IF_ERROR(failed);
    moved.in[input].Set(at, x);
    ++(slope.roughness > tolerance ? tally->rough : tally->compared);
    if (slope.roughness > tolerance || std::fabs(d.At(at) - slope.value) <= tolerance) continue;
    return Finding::Fail(d.Where(at) + ": found " + Number(d.At(at)) +
                         ", central differences of forward give " + Number(slope.value) + " (" +
                         Number(tolerance) + " apart at most), inputs " + run.layout().Text() +
                         ", " + ElemName(run.in[input].elem()));
  }
  return Finding::Pass();
}

// Rows first, first + 1, … of the packed batch.
std::vector<int64_t> RowsFrom(int64_t first, int64_t n) {
  std::vector<int64_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), first);
  return rows;
}

// "" or the first element of row `row` of `found` that differs from row `expected_row`.
std::string RowDiffers(const std::vector<Tensor>& found, int64_t row,
                       const std::vector<Tensor>& expected, int64_t expected_row) {
  for (size_t i = 0; i < found.size(); ++i) {
    const Tensor e = expected[i].Rows(expected_row, expected_row + 1);
    const Tolerance tolerance{1e-4, 1e-5 * std::max(1.0, LargestOf(e))};
    std::string text = FirstDifference(found[i].Rows(row, row + 1), e, tolerance);
    if (!text.empty()) return "row " + std::to_string(expected_row) + " of " + text;
  }
  return "";
}

}  // namespace

Finding Gradient(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    if (plugin.table().backward == nullptr) {
      return Finding::Skip("it has no backward: it can't be trained through");
    }
    Rng rng = subject.Random("op.gradient");
    const Elem elem = plugin.BestElem(layout);
    Tally tally;
    for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{5, 3, 1}, {8}}) {
      RETORT_FIND(OpRun run, MakeRun(plugin, layout, lengths, elem, &rng));
      RETORT_FAIL_IF_ERROR(run.Forward(plugin));
      RETORT_FAIL_IF_ERROR(run.Backward(plugin));
      for (size_t i = 0; i < layout.in.size(); ++i) {
        RETORT_PASS_OR_RETURN(CompareInput(plugin, run, i, &rng, &tally));
      }
    }
    if (tally.compared >= tally.rough) return Finding::Pass();
    return Finding::Fail("forward is not smooth: at " + std::to_string(tally.rough) + " of " +
                         std::to_string(tally.rough + tally.compared) +
                         " inputs its differences over one and two steps disagree");
  });
}

Finding Sequences(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    Rng rng = subject.Random("op.sequences");
    const std::vector<int64_t> lengths = {4, 0, 7, 1};
    RETORT_FIND(OpRun packed, MakeRun(plugin, layout, lengths, Elem::kF32, &rng));
    const bool with_backward = plugin.table().backward != nullptr;
    RETORT_FAIL_IF_ERROR(packed.Forward(plugin));
    if (with_backward) RETORT_FAIL_IF_ERROR(packed.Backward(plugin));
    int64_t first = 0;
    for (const int64_t n : lengths) {
      if (n == 0) continue;  // op.empty looks at those
      RETORT_FIND(const OpShapesCopy shapes, plugin.Infer(layout, n, Elem::kF32));
      OpRun alone = packed.Part(shapes, RowsFrom(first, n), {n}, {0});
      RETORT_FAIL_IF_ERROR(alone.Forward(plugin));
      if (with_backward) RETORT_FAIL_IF_ERROR(alone.Backward(plugin));
      for (int64_t r = 0; r < n; ++r) {
        std::string text = RowDiffers(alone.out, r, packed.out, first + r);
        for (size_t i = 0; with_backward && i < layout.in.size() && text.empty(); ++i) {
          if (!layout.is_value(i)) continue;
          text = RowDiffers({alone.d_in[i]}, r, {packed.d_in[i]}, first + r);
        }
        if (text.empty()) continue;
        return Finding::Fail("a sequence alone gives other results than among others: " + text);
      }
      first += n;
    }
    return Finding::Pass();
  });
}

Finding Rowwise(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    if (!plugin.has(RETORT_OP_ROWWISE)) return Finding::Skip("it does not say ROWWISE");
    Rng rng = subject.Random("op.rowwise");
    RETORT_FIND(OpRun all, MakeRun(plugin, layout, {6, 4}, Elem::kF32, &rng));
    RETORT_FIND(const OpShapesCopy shapes, plugin.Infer(layout, 1, Elem::kF32));
    RETORT_FAIL_IF_ERROR(all.Forward(plugin));
    for (int64_t r = 0; r < all.rows(); ++r) {
      OpRun alone = all.Part(shapes, {r}, {1}, {0});
      RETORT_FAIL_IF_ERROR(alone.Forward(plugin));
      const std::string text = RowDiffers(alone.out, 0, all.out, r);
      if (text.empty()) continue;
      return Finding::Fail(
          "it says ROWWISE, but a row alone gives other results than among "
          "others: " +
          text);
    }
    return Finding::Pass();
  });
}

namespace {

// What is left of each sequence after `done` tokens, at most `most` of it.
struct Piece {
  std::vector<int64_t> rows, lengths, first;
};
Piece NextPiece(const std::vector<int64_t>& lengths, std::vector<int64_t>* done,
                const std::vector<int64_t>& most) {
  Piece piece;
  int64_t begin = 0;
  for (size_t s = 0; s < lengths.size(); ++s) {
    const int64_t n = std::min(most[s], lengths[s] - (*done)[s]);
    const std::vector<int64_t> rows = RowsFrom(begin + (*done)[s], n);
    piece.rows.insert(piece.rows.end(), rows.begin(), rows.end());
    piece.lengths.push_back(n);
    piece.first.push_back((*done)[s]);
    (*done)[s] += n;
    begin += lengths[s];
  }
  return piece;
}

void FillSpareSlots(OpRun* run) {
  for (Tensor& tensor : run->state) {
    const int64_t slots = tensor.shape()[0], each = slots == 0 ? 0 : tensor.size() / slots;
    for (int64_t i = 0; i < each; ++i) {
      tensor.Set(i, kNobody);
      tensor.Set((slots - 1) * each + i, kNobody);
    }
  }
}

Finding CompareState(const OpRun& found, const OpRun& expected, const std::vector<Tensor>& start) {
  for (size_t i = 0; i < found.state.size(); ++i) {
    const int64_t slots = start[i].shape()[0];
    for (const int64_t spare : {int64_t{0}, slots - 1}) {
      const std::string text = FirstDifference(found.state[i].Rows(spare, spare + 1),
                                               start[i].Rows(spare, spare + 1), kSameBits);
      if (!text.empty()) {
        return Finding::Fail("the state in slot " + std::to_string(spare) +
                             ", of no sequence of the call, was touched: " + text);
      }
    }
    const Tolerance tolerance{1e-4, 1e-5 * std::max(1.0, LargestOf(expected.state[i]))};
    const std::string text = FirstDifference(found.state[i], expected.state[i], tolerance);
    if (!text.empty()) return Finding::Fail("the state after the last token differs: " + text);
  }
  return Finding::Pass();
}

}  // namespace

Finding Decode(const Subject& subject) {
  return OnOp(subject, [&](const Op& plugin, const OpLayout& layout) -> Finding {
    Rng rng = subject.Random("op.decode");
    const std::vector<int64_t> lengths = {7, 4, 6};
    RETORT_FIND(OpRun whole, MakeRun(plugin, layout, lengths, Elem::kF32, &rng));
    const bool has_decode = plugin.table().decode != nullptr, has_state = !whole.state.empty();
    if (!has_decode && !has_state) {
      if (plugin.has(RETORT_OP_ROWWISE)) return Finding::Skip("ROWWISE: see op.rowwise");
      return Finding::Fail(
          "it has no decode, no state and isn't ROWWISE: nothing says how tokens "
          "are added");
    }
    FillSpareSlots(&whole);
    OpRun once = whole, running = whole;
    RETORT_FAIL_IF_ERROR(whole.Forward(plugin));
    RETORT_FAIL_IF_ERROR(once.Decode(plugin));
    for (int64_t r = 0; r < whole.rows(); ++r) {
      const std::string text = RowDiffers(once.out, r, whole.out, r);
      if (text.empty()) continue;
      return Finding::Fail("from a zero state it gives other rows than forward with n_state 0: " +
                           text);
    }
    // Prompts, then one token each, then uneven pieces; by decode, or by forward where there is
    // none, as the host does.
    const std::vector<std::vector<int64_t>> plan = {
        {2, 1, 3}, {1, 1, 1}, {1, 1, 1}, {2, 0, 1}, {9, 9, 9}};
    std::vector<int64_t> done(lengths.size(), 0);
    const std::vector<Tensor> start = whole.state.empty() ? std::vector<Tensor>() : running.state;
    for (const std::vector<int64_t>& most : plan) {
      const Piece piece = NextPiece(lengths, &done, most);
      RETORT_FIND(const OpShapesCopy shapes,
                  plugin.Infer(layout, static_cast<int64_t>(piece.rows.size()), Elem::kF32));
      OpRun part = running.Part(shapes, piece.rows, piece.lengths, piece.first);
      RETORT_FAIL_IF_ERROR(part.Decode(plugin));
      for (size_t r = 0; r < piece.rows.size(); ++r) {
        const std::string text =
            RowDiffers(part.out, static_cast<int64_t>(r), whole.out, piece.rows[r]);
        if (text.empty()) continue;
        return Finding::Fail("token by token it gives other rows than forward over the whole: " +
                             text);
      }
      running.state = part.state;
    }
    return CompareState(running, once, start);
  });
}

}  // namespace retort::host::check::op
