#!/usr/bin/env python3
"""Writes tests/golden/rope.jsonl: what transformers says in f64 about fixtures whose config has
another rope scaling, one variant a line: the fixture's name, the keys of config.json to replace,
log-probabilities of texts below, at and above the length where the scaling changes, and a greedy
continuation that grows across it (by transformers' own generate, which prefills anew where cached
keys become stale). Run in the peers venv.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import shutil
import tempfile

import torch

import oracle

PROMPT = "Write a short poem about a lighthouse in winter."
N_TOKENS, ACROSS, NEAR_TIE = 24, 10, 1e-3


def variants(limit):
    def rope(**scaling):
        return {"rope_theta": 10000.0, **scaling}
    yield "llama3", "llama", {"rope_parameters": rope(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=48)}
    yield "linear", "llama", {"rope_parameters": rope(rope_type="linear", factor=4.0)}
    yield "yarn", "llama", {"max_position_embeddings": 512, "rope_parameters": rope(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=128)}
    yield "dynamic", "llama", {"max_position_embeddings": limit, "rope_parameters": rope(
        rope_type="dynamic", factor=2.0)}
    yield "longrope", "phi3", {
        "max_position_embeddings": 4 * limit, "original_max_position_embeddings": limit,
        "sliding_window": None, "rope_parameters": rope(
            rope_type="longrope", partial_rotary_factor=0.5, short_factor=[1.0, 1.25],
            long_factor=[1.5, 3.0])}
    yield "longrope of old", "phi3", {
        "max_position_embeddings": 4 * limit, "original_max_position_embeddings": limit,
        "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "rope_parameters": None,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.25], "long_factor": [1.5, 3.0]}}


def open_variant(name, keys):
    with tempfile.TemporaryDirectory() as at:
        folder = pathlib.Path(at) / name
        shutil.copytree(oracle.FIXTURES / name, folder)
        config = json.loads((folder / "config.json").read_text())
        config = {k: v for k, v in {**config, **keys}.items() if v is not None or k not in keys}
        (folder / "config.json").write_text(json.dumps(config))
        model, _ = oracle.open_model(folder)
    return oracle.to_f64(model)


def generate(model, ids):
    result = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=N_TOKENS,
                            min_new_tokens=N_TOKENS, output_scores=True, output_logits=True,
                            return_dict_in_generate=True)
    gaps = [float(top[0] - top[1]) for top in
            (score[0].topk(2).values for score in result.scores)]
    return result.sequences[0, len(ids):].tolist(), gaps


def main():
    torch.set_num_threads(1)
    tokenizer = oracle.open_model(oracle.FIXTURES / "llama")[1]
    messages = [{"role": "user", "content": PROMPT}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text).input_ids
    limit = len(prompt) + ACROSS
    long = tokenizer("\n".join(r["text"] for r in oracle.read_jsonl(
        oracle.GOLDEN / "texts.jsonl"))).input_ids
    texts = [long[:limit - 40], long[:limit], long[7:limit + 8], long[30:300]]
    lines = []
    for name, fixture, keys in variants(limit):
        scores = []
        for ids in texts:  # a model of each: transformers keeps the longest length it saw
            model = open_variant(fixture, keys)
            with oracle.all_f64():
                scores.append([oracle.exact(v) for v in oracle.logprobs(model, ids)])
        model = open_variant(fixture, keys)
        with oracle.all_f64():
            out, gaps = generate(model, prompt)
        print(name, "least gap", min(gaps))
        lines.append({"name": name, "model": fixture, "config": keys, "ids": texts,
                      "logprob": scores, "messages": messages, "prompt_ids": prompt,
                      "greedy": out, "near_ties": [i for i, g in enumerate(gaps) if g < NEAR_TIE]})
    oracle.write_jsonl(oracle.GOLDEN / "rope.jsonl", lines)


if __name__ == "__main__":
    main()
