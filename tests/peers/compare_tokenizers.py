#!/usr/bin/env python3
# Compares core/text with HF tokenizers on whole tokenizers: ids and decoded text of written and
# of random texts, and (--bench) encoding speed on the same lines.
# SPDX-License-Identifier: Apache-2.0
"""compare_tokenizers.py TOOL FOLDER... [--random N] [--seed S] [--bench FILE]"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import time

from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from tokenizer_texts import TEXTS, random_texts  # noqa: E402


def added_texts(tokenizer):
    contents = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    return [f"a {c} b{c}{c}\n{c} " for c in contents[:60]]


def compare(tool, folder, count, seed):
    hf = Tokenizer.from_file(str(folder / "tokenizer.json"))
    extra = [t.content for t in hf.get_added_tokens_decoder().values()][:8]
    texts = TEXTS + added_texts(hf) + random_texts(count, seed, extra)
    lines = "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts)
    run = subprocess.run([tool, str(folder)], input=lines.encode(), stdout=subprocess.PIPE,
                         check=True)
    outs = [json.loads(line) for line in run.stdout.decode().split("\n") if line]
    assert len(outs) == len(texts), (len(outs), len(texts))
    # The classes with switches of their own put bos and eos; tokenizers does not know them.
    wrong = 0
    tokens = 0
    for text, out in zip(texts, outs):
        ids = hf.encode(text, add_special_tokens=True).ids
        tokens += len(ids)
        ours = out["ids"]
        if len(ours) == len(ids) + 1 and ours[1:] == ids:
            ours = ours[1:]
        same = ours == ids and out["text"].endswith(hf.decode(ids, skip_special_tokens=False))
        if not same:
            wrong += 1
            if wrong <= 5:
                print("DIFFERS", json.dumps(text), "\n  hf  ", ids, "\n  ours", ours,
                      "\n ", json.dumps(hf.decode(ids, skip_special_tokens=False)),
                      json.dumps(out["text"]))
    print(f"{folder}: {len(texts)} texts, {tokens} tokens, {wrong} differ")
    return wrong


def bench(tool, folder, path, seconds=4.0, blocks=3):
    hf = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = pathlib.Path(path).read_text(encoding="utf-8")
    lines = text.split("\n")
    ratios = []
    for _ in range(blocks):
        out = subprocess.run([tool, str(folder), "--bench", path, str(seconds)],
                             stdout=subprocess.PIPE, check=True).stdout
        ours = json.loads(out)["mb_per_s"]
        start, size = time.time(), 0
        while time.time() - start < seconds:
            for line in lines:
                hf.encode(line)
            size += len(text.encode())
        theirs = size * 1e-6 / (time.time() - start)
        ratios.append(ours / theirs)
        print(f"{folder.name}: ours {ours:.1f} MB/s, tokenizers {theirs:.2f} MB/s")
    print(f"{folder.name}: median ratio {sorted(ratios)[len(ratios) // 2]:.1f}")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("tool")
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--random", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bench")
    args = parser.parse_args()
    wrong = sum(compare(args.tool, f, args.random, args.seed) for f in args.folders)
    if args.bench:
        for folder in args.folders:
            bench(args.tool, folder, args.bench)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    random.seed(0)
    main()
