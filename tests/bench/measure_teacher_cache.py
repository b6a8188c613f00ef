#!/usr/bin/env python3
"""What a teacher's cache costs and what it loses: bytes per trained token, and the student's divergence
from cached rows beside that from whole ones.

Usage: measure_teacher_cache.py RETORT MODEL [K ...]; MODEL is the teacher, and with a LoRA adapter that
has learned a little from GSM8K answers the student. Prints a line for each temperature and k, with the
divergence under each teacher_tail of loss/kd.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TAILS = ("bucket", "renormalize", "drop")
TEMPERATURES = (1, 3)
LORA = {"r": 8, "alpha": 16}
COMMON = {"data": "d", "chat": False, "lora": LORA, "max_length": 512, "schedule": "constant"}


def name_of(temperature, top_k, tail):
    return f"t{temperature}-k{top_k}-{tail}"


def distill(temperature, top_k, tail):
    """One step that changes nothing, on the same batch whatever the name."""
    return {"name": name_of(temperature, top_k, tail), "kind": "distill", "model": "@sft", "teacher": "m", "teacher_top_k": top_k, **COMMON,
            "loss": [{"plugin": "kd", "config": {"temperature": temperature, "t_squared": False,
                                                 "teacher_tail": tail}}],
            "learning_rate": 0, "max_steps": 1, "batch_tokens": 2048, "shuffle": False}


def main():
    retort, model, *ks = sys.argv[1:]
    ks = [int(k) for k in ks] or [16, 64, 128]
    data = {"path": str(ROOT / "tests/fixtures/gsm8k/train_small.jsonl"),
            "map": {"prompt": "question", "completion": "answer"}}
    stages = [{"name": "sft", "kind": "sft", "model": "m", **COMMON, "learning_rate": 1e-3, "max_steps": 8,
               "batch_tokens": 1024}]
    for temperature in TEMPERATURES:
        stages += [distill(temperature, 0, "bucket")]
        stages += [distill(temperature, k, tail) for k in ks for tail in TAILS]
    pipeline = {"retort": 1, "name": "cache", "models": {"m": str(pathlib.Path(model).resolve())},
                "data": {"d": data}, "stages": stages}
    with tempfile.TemporaryDirectory(prefix="retort-cache-") as scratch:
        folder = pathlib.Path(scratch)
        (folder / "pipeline.json").write_text(json.dumps(pipeline))
        run = folder / "run"
        subprocess.run([retort, "run", folder / "pipeline.json", "--set", f"output={run}"], check=True,
                       stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        divergence = {line["stage"]: line["kd/divergence"] for line in lines if line["stage"] != "sft"}
        for temperature in TEMPERATURES:
            whole = divergence[name_of(temperature, 0, "bucket")]
            print(f"T {temperature}: KL of whole rows {whole:.6f} nats a token")
            for k in ks:
                first = run / name_of(temperature, k, TAILS[0])
                numbers = json.loads((first / "manifest.json").read_text())["numbers"]
                found = {tail: divergence[name_of(temperature, k, tail)] for tail in TAILS}
                print(f"  k {k:4}: {numbers['teacher_cache_bytes_per_token']:.1f} bytes a token, KL "
                      + ", ".join(f"{tail} {kl:.6f} ({kl / whole - 1:+.2%})" for tail, kl in found.items()))


if __name__ == "__main__":
    main()
