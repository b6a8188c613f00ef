"""Turns A B A B …, and what is made of them: the median of the paired ratios and its quartiles.

SPDX-License-Identifier: Apache-2.0
"""
import dataclasses
import statistics


@dataclasses.dataclass
class Pair:
    """Of one work. Rates: units per second, medians; ratios: ours over theirs, turn by turn."""
    work: str
    unit: str
    peer: str
    theirs: float
    ours: float
    ratio: float
    low: float
    high: float
    bar: float
    lower_is_better: bool = False

    def holds(self):
        return self.ratio <= self.bar if self.lower_is_better else self.ratio >= self.bar


def paired(work, unit, peer, bar, theirs, ours, turns=5, warm=1):
    """theirs() and ours() do the same work and give units per second."""
    for _ in range(warm):
        theirs(), ours()
    pairs = [(theirs(), ours()) for _ in range(turns)]
    ratios = sorted(b / a for a, b in pairs)
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return Pair(work, unit, peer, statistics.median(a for a, _ in pairs),
                statistics.median(b for _, b in pairs), statistics.median(ratios), quartiles[0],
                quartiles[2], bar)


def equal_losses(theirs, ours, relative=1e-4):
    for key in ("losses", "grad_norms"):
        limit = relative if key == "losses" else 20 * relative
        for step, (a, b) in enumerate(zip(theirs[key][:2], ours[key][:2], strict=True)):
            assert abs(b / a - 1) < limit, f"step {step + 1}: {key} {a} and {b} differ: nothing is timed"
