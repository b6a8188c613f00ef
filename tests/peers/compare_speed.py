#!/usr/bin/env python3
"""Speed of retort beside transformers on the same weights (SmolLM2), work and threads.

Usage: compare_speed.py RETORT [--rounds N]. First the answers must be equal (greedy tokens, losses
of the steps), then both sides take turns, so that a slower minute of the machine hits both.
  decode   greedy, B sequences together, chat prompts, 64 new tokens each
  train    SFT steps over rows of 256 tokens, AdamW, accumulation 2
retort's figures are those that its own reports name (loading left out on both sides). Prints
tokens/s of each side and the ratio of the medians.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import oracle
import torch

NEW_TOKENS, ROW, STEPS = 64, 256, 4


def prompts(n):
    records = oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl")
    return [[{"role": "user", "content": records[i % len(records)]["question"]}] for i in range(n)]


class Peer:
    """transformers in f32, its fastest plain settings on a CPU (sdpa attention, KV cache)."""

    def __init__(self, path, threads):
        torch.set_num_threads(threads)
        self.model, self.tokenizer = oracle.open_model(path)
        self.tokenizer.padding_side = "left"
        self.start = {k: v.clone() for k, v in self.model.state_dict().items()}

    def decode(self, batch):
        texts = [self.tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True)
                 for m in batch]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        self.model.load_state_dict(self.start)  # training of the turn before changed them
        self.model.eval()
        begin = time.perf_counter()
        with torch.no_grad():
            out = self.model.generate(**inputs, do_sample=False, min_new_tokens=NEW_TOKENS,
                                      max_new_tokens=NEW_TOKENS, pad_token_id=2)
        return len(batch) * NEW_TOKENS / (time.perf_counter() - begin), \
            out[:, inputs.input_ids.shape[1]:].tolist()

    def train(self, rows):
        self.model.load_state_dict(self.start)
        self.model.train()
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
        losses, begin = [], time.perf_counter()
        for step in range(STEPS):
            total = 0.0
            for row in rows[2 * step:2 * step + 2]:
                ids = torch.tensor([row])
                loss = self.model(input_ids=ids, labels=ids).loss / 2
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(total)
        return sum(len(row) for row in rows) / (time.perf_counter() - begin), losses


class Ours:
    def __init__(self, retort, path, threads, folder):
        self.retort, self.path, self.threads, self.folder = retort, path, threads, folder

    def run(self, *arguments, text=""):
        done = subprocess.run([self.retort, *map(str, arguments)], input=text, capture_output=True,
                              text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return done

    def write(self, batch, rows):
        (self.folder / "prompts.jsonl").write_text(
            "".join(json.dumps({"messages": m}) + "\n" for m in batch))
        (self.folder / "rows.jsonl").write_text("".join(json.dumps({"text": r}) + "\n" for r in rows))
        sampling = {"temperature": 0, "max_tokens": NEW_TOKENS, "min_tokens": NEW_TOKENS}
        pipeline = {
            "retort": 1, "name": "speed", "threads": self.threads, "models": {"m": str(self.path)},
            "data": {"prompts": "prompts.jsonl", "rows": "rows.jsonl"},
            "stages": [
                {"name": "decode", "kind": "generate", "model": "m", "data": "prompts",
                 "sampling": sampling, "max_batch": len(batch)},
                {"name": "train", "kind": "sft", "model": "m", "data": "rows", "train_on": "all",
                 "packing": "none", "shuffle": False, "max_steps": STEPS, "learning_rate": 1e-4,
                 "schedule": "constant", "max_length": 2 * ROW, "logging_steps": 1,
                 "batch": {"per_device": 1, "accumulation": 2}, "save_steps": 0,
                 "optimizer": {"plugin": "adamw", "config": {"weight_decay": 0.0}}}]}
        (self.folder / "pipeline.json").write_text(json.dumps(pipeline))

    def stage(self):
        out = self.folder / "run"
        self.run("run", self.folder / "pipeline.json", "--fresh", "--set", f"output={out}")
        return out


def exact_rows(tokenizer, n):
    """Texts that encode to exactly ROW tokens, also when encoded again."""
    text = " ".join(r["question"] + " " + r["answer"] for r in
                    oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl"))
    ids, rows, at = tokenizer(text).input_ids, [], 0
    while len(rows) < n:
        piece = tokenizer.decode(ids[at:at + ROW])
        at += 7
        if tokenizer(piece).input_ids == ids[at - 7:at - 7 + ROW]:
            rows.append(piece)
            at += ROW - 7
            at %= max(1, len(ids) - ROW)
    return rows


def numbers(run, stage):
    """What the stage's manifest says of its work; the peers' times hold prefill too."""
    return json.loads((run / stage / "manifest.json").read_text())["numbers"]


def ours_rates(run):
    decode, train = numbers(run, "decode"), numbers(run, "train")
    return (decode["completion_tokens"] / (decode["prefill_seconds"] + decode["decode_seconds"]),
            train["tokens"] / train["step_seconds"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("retort", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    peer = Peer(oracle.smollm2_path(), options.threads)
    rows, batch = exact_rows(peer.tokenizer, 2 * STEPS), prompts(options.batch)
    # A text is trained with the token that ends it, as retort does.
    ids = [peer.tokenizer(row).input_ids + [peer.tokenizer.eos_token_id] for row in rows]
    rates = {key: [] for key in ("decode/peer", "decode/retort", "train/peer", "train/retort")}
    with tempfile.TemporaryDirectory(prefix="retort-speed-") as scratch:
        ours = Ours(options.retort.resolve(), oracle.smollm2_path(), options.threads,
                    pathlib.Path(scratch))
        ours.write(batch, rows)
        for _ in range(options.rounds):
            run = ours.stage()
            decode, train = ours_rates(run)
            steps = [m for m in oracle.read_jsonl(run / "metrics.jsonl") if "loss" in m]
            samples = oracle.read_jsonl(run / "decode" / "samples.jsonl")
            rate, tokens = peer.decode(batch)
            rates["decode/peer"].append(rate)
            rates["decode/retort"].append(decode)
            rate, losses = peer.train(ids)
            rates["train/peer"].append(rate)
            rates["train/retort"].append(train)
            for sample, expected in zip(samples, tokens, strict=True):
                assert sample["completion_ids"] == expected, (sample["completion_ids"], expected)
            for step, loss in zip(steps, losses, strict=True):
                assert abs(step["loss"] / loss - 1) < 1e-3, (step["loss"], loss)
    for work in ("decode", "train"):
        theirs, mine = (statistics.median(rates[f"{work}/{side}"]) for side in ("peer", "retort"))
        print(f"{work}: transformers {theirs:.1f} tok/s, retort {mine:.1f} tok/s, "
              f"ratio {mine / theirs:.2f} (medians of {options.rounds} turns, "
              f"{options.threads} threads, batch {options.batch})")


if __name__ == "__main__":
    main()
