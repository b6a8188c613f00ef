#!/usr/bin/env python3
"""Stops and kills a small run at random moments, again and again, and continues it each time: in
the end its metrics, samples and weights must equal those of a run that nobody disturbed.

Usage: soak.py RETORT [--minutes M] [--seed S]. Half of the stops are SIGINT (a clean save, exit
code 75), half SIGKILL. Python's standard library alone.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import hashlib
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
VOLATILE = ("time", "tokens_per_second", "seconds", "memory", "rss", "peak")


def pipeline(folder):
    """Every stage kind; long enough (some seconds) to be hit in each."""
    completion = {"prompt": "question", "completion": "answer", "answer": "answer"}
    text = {
        "retort": 1, "name": "soak", "threads": 1, "models": {"m": str(FIXTURES / "qwen3")},
        "data": {"d": {"path": str(FIXTURES / "gsm8k" / "train_small.jsonl"), "map": completion}},
        "stages": [
            {"name": "cot", "kind": "generate", "model": "m", "data": "d", "samples": 8,
             "sampling": {"max_tokens": 96}},
            {"name": "clean", "kind": "filter", "data": "@cot",
             "filters": [{"plugin": "length", "config": {"max_tokens": 90}}]},
            {"name": "sft", "kind": "sft", "model": "m", "data": ["@clean", "d"], "max_length": 1024,
             "batch": {"per_device": 1, "accumulation": 2}, "max_steps": 60, "save_steps": 5,
             "logging_steps": 1, "learning_rate": 1e-3},
            {"name": "score", "kind": "eval", "models": ["m", "@sft"],
             "tasks": [{"data": "d", "limit": 16, "sampling": {"temperature": 0, "max_tokens": 32},
                        "metrics": ["mean_length", {"loglik": "completion"}]}]}]}
    path = folder / "pipeline.json"
    path.write_text(json.dumps(text, indent=1))
    return path


def stable(value):
    """A JSON value without what may differ from run to run: times, rates, memory."""
    if isinstance(value, dict):
        return {k: stable(v) for k, v in value.items() if not any(w in k for w in VOLATILE)}
    return [stable(v) for v in value] if isinstance(value, list) else value


def digest_lines(path):
    lines = [json.dumps(stable(json.loads(line)), sort_keys=True)
             for line in path.read_text().splitlines() if line]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest(), len(lines)


def results(run):
    """name -> digest of all that a run is for."""
    out = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if ".trash" in name or not path.is_file():
            continue
        if path.name in ("metrics.jsonl", "samples.jsonl", "kept.jsonl", "audit.jsonl"):
            out[name] = digest_lines(path)
        elif path.name == "scores.json":
            out[name] = json.dumps(stable(json.loads(path.read_text())), sort_keys=True)
        elif path.suffix == ".safetensors":
            out[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def is_intermediate(name, names):
    """A checkpoint before the stage's last: which of these are still there depends on where the
    stops fell, as a clean stop saves one of its own."""
    def number(n):
        found = re.match(r"(.*)/checkpoint-([0-9]+)/", n)
        return (found[1], int(found[2])) if found else ("", -1)
    stage, step = number(name)
    return step >= 0 and step < max(s for st, s in map(number, names) if st == stage)


def differences(expected, found):
    names = expected.keys() | found.keys()
    return sorted(k for k in names if expected.get(k) != found.get(k) and
                  (k in expected.keys() & found.keys() or not is_intermediate(k, names)))


def command(retort, file, run):
    return [str(retort), "run", str(file), "--set", f"output={run}"]


def disturbed(retort, file, run, dice, longest):
    """Runs to the end through stops; how many there were."""
    stops = 0
    while True:
        process = subprocess.Popen(command(retort, file, run), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        how = dice.choice((signal.SIGINT, signal.SIGKILL))
        try:
            process.wait(timeout=dice.uniform(0.05, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(how)
            stops += 1
        errors = process.communicate()[1]
        if process.returncode == 0:
            return stops
        if process.returncode not in (75, -signal.SIGKILL, -signal.SIGINT):
            raise SystemExit(f"soak: exit code {process.returncode} after {stops} stops\n{errors}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("retort", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 30)
    dice, begin = random.Random(seed), time.monotonic()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="retort-soak-"))
    file = pipeline(folder)
    subprocess.run(command(options.retort, file, folder / "calm"), check=True,
                   stdout=subprocess.DEVNULL)
    longest = max(1.0, (time.monotonic() - begin) / 2)
    expected, rounds, stops = results(folder / "calm"), 0, 0
    assert any(name.endswith(".safetensors") for name in expected), expected.keys()
    while rounds == 0 or time.monotonic() - begin < 60 * options.minutes:
        run = folder / f"round{rounds}"
        stops += disturbed(options.retort, file, run, dice, longest)
        found = results(run)
        wrong = differences(expected, found)
        if wrong:
            print(f"soak: seed {seed}, round {rounds}: differs in {wrong}; kept in {folder}")
            return 1
        shutil.rmtree(run)
        rounds += 1
    shutil.rmtree(folder)
    print(f"soak: {rounds} rounds with {stops} stops in {time.monotonic() - begin:.0f} s, "
          f"each equal to the undisturbed run (seed {seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
