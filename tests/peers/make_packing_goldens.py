#!/usr/bin/env python3
# Rows that TRL's packing makes of random document lengths, strategy by strategy.
# SPDX-License-Identifier: Apache-2.0
"""make_packing_goldens.py OUT.jsonl"""
import json
import random
import sys

from datasets import Dataset
from trl import pack_dataset


def main():
    rng = random.Random(5)
    with open(sys.argv[1], "w", encoding="utf-8", newline="\n") as f:
        for strategy in ("bfd", "bfd_split", "wrapped"):
            for case in range(12):
                limit = rng.choice([4, 8, 16, 33])
                lengths = [rng.randint(1, 2 * limit) for _ in range(rng.randint(1, 24))]
                # Token values name their document and place.
                ids = [[1000 * d + t for t in range(n)] for d, n in enumerate(lengths)]
                packed = pack_dataset(Dataset.from_dict({"input_ids": ids}), seq_length=limit,
                                      strategy=strategy)
                line = {"packing": strategy, "max_length": limit, "lengths": lengths,
                        "rows": [list(r) for r in packed["input_ids"]]}
                f.write(json.dumps(line, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
