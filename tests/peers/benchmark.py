#!/usr/bin/env python3
"""Measures retort beside transformers, peft, HF tokenizers and llama.cpp, and writes the table of
docs/benchmarks.md. Same weights, same token ids; losses, gradient norms and greedy tokens must agree
before a clock starts; then the sides take turns.

Usage: benchmark.py BUILD [--only WORK,..] [--turns N] [--threads N] [--write] [--ablations]
BUILD is a build folder with RETORT_BENCH on. Each work runs in a process of its own. Results stay
in the cache, so that single works can be measured anew; --write puts them all on the page.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys

import oracle
from bench import report

TECHNIQUES = ("arena", "merge", "addnorm", "multitensor", "blocked")  # core/base/features.h
PAGE = oracle.ROOT / "docs" / "benchmarks.md"


def works(retort, driver, threads, turns):
    """Name -> function that gives a Pair. Imports late: each work loads only its own peer."""
    from bench import models  # noqa: F401
    t = dict(driver=driver, threads=threads, turns=turns)

    def train(name):
        from bench import train as module
        return lambda: module.dense(name, **t)

    def one(module, function, *arguments, **more):
        def run():
            import importlib
            return getattr(importlib.import_module(f"bench.{module}"), function)(*arguments, **more)
        return run
    few = {**t, "turns": max(2, turns // 2)}
    return {
        "train_c1": train("C1"), "train_c2": train("C2"),
        "train_c3": one("train", "dense", "C3", **few), "train_smollm2": train("SmolLM2"),
        "ragged": one("train", "ragged", **t), "lora": one("train", "lora", **t),
        "memory_smollm2": one("memory", "compare", "SmolLM2", 0.7, driver, threads),
        "memory_c3": one("memory", "compare", "C3", 0.8, driver, threads),
        "kd": one("kd", "step_time", **t), "memory_kd": one("kd", "memory", driver, threads),
        "decode_c3_f32": one("decode", "beside_transformers", "C3", 1, 1.7, **few),
        "decode_c3_bf16": one("decode", "beside_transformers", "C3", 1, 3.0, storage="bf16", **few),
        "decode_1": one("decode", "beside_transformers", "SmolLM2", 1, 2.5, **t),
        "decode_16": one("decode", "beside_transformers", "SmolLM2", 16, 2.5, **t),
        "decode_q8_0": one("decode", "beside_llama", retort, "q8_0", 1.1, **t),
        "decode_q4_1": one("decode", "beside_llama", retort, "q4_1", 1.4, **t),
        "decode_q4_0": one("decode", "beside_llama", retort, "q4_0", 1.4, **t),
        "prefill_f32": one("decode", "prefill", retort, "f32", 1.5, **t),
        "prefill_q8_0": one("decode", "prefill", retort, "q8_0", 1.5, **t),
        "prefill_q4_1": one("decode", "prefill", retort, "q4_1", 1.5, **t),
        "shared_prompt": one("decode", "shared_prompt", driver, threads),
        "encode": one("text", "encode", retort, driver, turns),
        "grpo": one("grpo", "step", retort, threads, max(1, turns // 2)),
        "first_token": one("text", "first_token", retort, 2 * turns),
    }


def run_one(name, options):
    pair = works(options.retort, options.driver, options.threads, options.turns)[name]()
    print(json.dumps({**dataclasses.asdict(pair), "holds": pair.holds(),
                      "commit": report.commit_of(oracle.ROOT)}))


def ablations(options):
    """C1 and SmolLM2 training with one technique off at a time, against all on."""
    from bench import models, train
    from bench.ours import Ours, documents
    for name in ("C1", "C2", "SmolLM2"):
        batch = [documents(models.rows(name))] * train.STEPS[name] * 2
        for technique in TECHNIQUES:
            sides = [Ours(options.driver, options.threads),
                     Ours(options.driver, options.threads, RETORT_DISABLE=technique)]
            for side in sides:
                side.open(train.path_of(name))
            ratios = []
            for _ in range(options.turns + 1):
                on, off = (min(side.train(batch)["seconds"]) for side in sides)
                ratios.append(off / on)
            for side in sides:
                side.close()
            ratios = sorted(ratios[1:])
            print(f"{name}: without {technique}: {ratios[len(ratios) // 2]:.2f} x the time")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.retort = options.build.resolve() / "bin" / "retort"
    options.driver = options.build.resolve() / "bin" / "peer_driver"
    if options.one:
        return run_one(options.one, options)
    if options.ablations:
        return ablations(options)
    from bench import models
    kept = models.cache() / "results.json"
    results = report.load(kept)
    names = list(works(None, None, 0, options.turns))
    for name in options.only.split(",") if options.only else names:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", name],
                              capture_output=True, text=True)
        if done.returncode != 0:
            print(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}")
            results.pop(name, None)
            continue
        results[name] = json.loads(done.stdout.splitlines()[-1])
        print(report.line(results[name]), flush=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(results))
    if options.write:
        report.write(PAGE, [results[n] for n in names if n in results], options.threads,
                     options.turns)
    return None


if __name__ == "__main__":
    main()
