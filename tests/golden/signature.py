#!/usr/bin/env python3
"""The behaviour signature: 64 bits over the losses, gradient norms, rewards and sampled tokens of a
short run (20 steps, one thread, portable kernels, LibTorch's default paths). A refactoring that
moves it is not one.

Usage: signature.py RETORT [--update]; compares with signature.txt, one line per LibTorch version.
SPDX-License-Identifier: Apache-2.0
"""
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE / "signature.txt"
FIXTURES = HERE.parent / "fixtures"
PINNED = {"RETORT_KERNELS": "portable", "ATEN_CPU_CAPABILITY": "default",
          "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}


def pipeline():
    source = {"path": str(FIXTURES / "gsm8k" / "train_small.jsonl"),
              "map": {"prompt": "question", "completion": "answer", "answer": "answer"}}
    sampling = {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "max_tokens": 24}
    return {
        "retort": 1, "name": "signature", "seed": 7, "threads": 1,
        "models": {name: {"path": str(FIXTURES / name), "storage": "f32"}
                   for name in ("llama", "qwen2", "qwen3")},
        "data": {"d": source},
        "stages": [
            {"name": "cot", "kind": "generate", "model": "qwen2", "data": "d", "limit": 8,
             "samples": 2, "sampling": sampling},
            {"name": "sft", "kind": "sft", "model": "qwen3", "data": ["@cot", "d"],
             "max_length": 512, "max_steps": 20, "logging_steps": 1, "learning_rate": 1e-3,
             "batch": {"per_device": 1, "accumulation": 2}},
            {"name": "score", "kind": "eval", "models": ["llama", "@sft"],
             "tasks": [{"data": "d", "limit": 8, "rewards": ["number_match"],
                        "metrics": ["rewards", "mean_length", {"loglik": "completion"}],
                        "sampling": {"temperature": 0, "max_tokens": 24}}]}]}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def signature(run):
    samples = [[s["completion_ids"], s["finish"]] for s in read(run / "cot" / "samples.jsonl")]
    steps = [[m["step"], m["loss"], m["grad_norm"]] for m in read(run / "metrics.jsonl") if "loss" in m]
    scores = json.loads((run / "score" / "scores.json").read_text())
    values = [[key, score[key]] for score in scores["scores"] for key in ("model", "metric", "value")]
    assert len(samples) == 16 and len(steps) == 20 and values
    text = json.dumps([samples, steps, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def libtorch_version(retort):
    out = subprocess.run([retort, "doctor", "--json"], check=True, capture_output=True, text=True).stdout
    return re.search(r"LibTorch ([0-9.]+)", json.loads(out.splitlines()[0])["engine"]).group(1)


def main():
    retort = str(pathlib.Path(sys.argv[1]).resolve())
    os.environ.update(PINNED)
    with tempfile.TemporaryDirectory(prefix="retort-signature-") as scratch:
        folder = pathlib.Path(scratch)
        (folder / "pipeline.json").write_text(json.dumps(pipeline()))
        subprocess.run([retort, "run", folder / "pipeline.json", "--set", f"output={folder}/run"],
                       check=True, stdout=subprocess.DEVNULL)
        found = signature(folder / "run")
    version = libtorch_version(retort)
    lines = dict(line.split() for line in GOLDEN.read_text().splitlines() if line and line[0] != "#") \
        if GOLDEN.exists() else {}
    print(f"{version} {found}")
    if "--update" in sys.argv:
        lines[version] = found
        GOLDEN.write_text("# LibTorch version, signature (make signature)\n"
                          + "".join(f"{k} {v}\n" for k, v in sorted(lines.items())))
        return 0
    if lines.get(version) != found:
        print(f"signature: expected {lines.get(version)}; if the change of behaviour is meant, run "
              "with --update and say so in the commit", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
