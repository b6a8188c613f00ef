"""Peak resident memory of three training steps, each side in a fresh process.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import resource
import subprocess
import sys

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from bench import hf, models, pairs  # noqa: E402
from bench.ours import Ours, documents  # noqa: E402
from bench.train import path_of, work_of  # noqa: E402


def peer_peak(name, threads):
    done = subprocess.run([sys.executable, __file__, name, str(threads)], check=True,
                          capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def compare(name, bar, driver, threads, **environment):
    batch = models.rows(name)
    ours = Ours(driver, threads, **environment)
    ours.open(path_of(name))
    mine = ours.train([documents(batch)] * 3)["peak_bytes"]
    ours.close()
    theirs = peer_peak(name, threads)
    ratio = mine / theirs
    return pairs.Pair(f"peak memory, {work_of(name, batch)}", "MiB",
                      "transformers", theirs / 2**20, mine / 2**20, ratio, ratio, ratio, bar,
                      lower_is_better=True)


if __name__ == "__main__":
    model = hf.HF(path_of(sys.argv[1]), int(sys.argv[2]))
    model.train([hf.batches_of(models.rows(sys.argv[1]))] * 3)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
