#!/usr/bin/env python3
"""Writes tests/golden/stored_smollm2.jsonl: what rounding costs SmolLM2, by two peers.

First eight lines: ids of eight GSM8K problems with their solutions, and, by transformers in f32 on
the dequantised weights of the Q4_1 file, the best token after each prefix and the log-probability
of the one that follows.
Last line: how far llama.cpp comes from those numbers. `weights`: with the Q4_1 file as it is, where
it rounds rows to int8 per 32 columns; in one batch, and token by token. `kv`: with the same
weights in f32 and keys and values cached in q8_0, on the greedy continuations of
greedy_smollm2.jsonl (against its own f32 cache, which is checked to equal transformers).
`kv_transformers`: the same by transformers, whose cached keys and values are rounded to int8 with a
scale per 64 numbers (a head's row, as in retort) and per 32 (as in q8_0).
Run it in the peers venv (tests/peers/setup.sh).
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import tempfile

import gguf
import llama_cpp
import numpy as np
import torch
from transformers.cache_utils import DynamicLayer

import oracle

TEXTS = 8


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def texts():
    with open(oracle.FIXTURES / "gsm8k" / "train_small.jsonl", encoding="utf-8") as lines:
        for _, line in zip(range(TEXTS), lines):
            record = json.loads(line)
            yield record["question"] + "\n" + record["answer"]


def in_f32(path, out):
    """The same file with every tensor dequantised."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.get_field("general.architecture").contents())
    skipped = ("GGUF.", "general.architecture", "general.file_type")
    for field in reader.fields.values():
        if field.name.startswith(skipped):
            continue
        of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], of)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama(path, **options):
    model = llama_cpp.Llama(str(path), n_ctx=512, logits_all=True, verbose=False, n_threads=1,
                            n_threads_batch=1, **options)

    def score(ids):
        model.reset()
        model.eval(ids)
        return log_softmax(model.scores[:len(ids)])
    return score


def distance(rows):
    """Of pairs (log-probabilities here, there, the ids that follow)."""
    same, apart = 0, []
    for ours, theirs, following in rows:
        same += int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
        at = np.arange(len(following)), np.array(following)
        apart += np.abs(ours[at] - theirs[at]).tolist()
    return {"same_top": same, "tokens": len(apart), "mean": round(float(np.mean(apart)), 6),
            "max": round(float(np.max(apart)), 6)}


def rounded(x, numbers):
    blocks = x.reshape(*x.shape[:-1], -1, numbers)
    scale = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return (torch.round(blocks / scale) * scale).reshape(x.shape)


def cached(model, run, numbers):
    """Log-probability rows of a run's continuation; the cache is rounded per so many numbers."""
    plain, rows = DynamicLayer.update, []

    def update(self, keys, values, *args, **kwargs):
        return plain(self, rounded(keys, numbers), rounded(values, numbers), *args, **kwargs)

    with torch.no_grad():
        out = model(torch.tensor([run["prompt_ids"]]), use_cache=True)
        cache = out.past_key_values
        if numbers:
            for layer in cache.layers:
                layer.keys, layer.values = (rounded(layer.keys, numbers),
                                            rounded(layer.values, numbers))
            DynamicLayer.update = update
        try:
            for i in run["ids"]:
                rows.append(log_softmax(out.logits[0, -1].numpy()))
                out = model(torch.tensor([[i]]), past_key_values=cache, use_cache=True)
        finally:
            DynamicLayer.update = plain
    return np.array(rows)


def main():
    path = oracle.smollm2_path()
    model, tokenizer = oracle.open_model(path)
    all_ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts()]
    lines, exact = [], []
    for ids in all_ids:
        with torch.no_grad():
            exact.append(log_softmax(model(torch.tensor([ids])).logits[0].numpy())[:-1])
        following = exact[-1][np.arange(len(ids) - 1), ids[1:]]
        lines.append({"ids": ids, "top": exact[-1].argmax(axis=1).tolist(),
                      "logprob": [float(f"{v:.7g}") for v in following]})
    f16, q8 = llama_cpp.GGML_TYPE_F16, llama_cpp.GGML_TYPE_Q8_0
    f32 = llama_cpp.GGML_TYPE_F32
    found = {"weights": {}, "kv": {}, "kv_transformers": {}}
    for name, batch in (("one_batch", 512), ("by_token", 1)):
        score = llama(path, type_k=f32, type_v=f32, n_batch=batch)
        found["weights"][name] = distance(
            (score(ids)[:-1], rows, ids[1:]) for ids, rows in zip(all_ids, exact))
    with open(oracle.GOLDEN / "greedy_smollm2.jsonl", encoding="utf-8") as greedy:
        runs = [json.loads(line) for line in greedy]
    exact_rows = [cached(model, run, 0) for run in runs]
    for numbers in (64, 32):
        found["kv_transformers"][f"per_{numbers}"] = distance(
            (cached(model, run, numbers), rows, run["ids"]) for run, rows in zip(runs, exact_rows))
    with tempfile.TemporaryDirectory() as scratch:
        wide = pathlib.Path(scratch) / "f32.gguf"
        in_f32(path, wide)

        def rows_of(score, run):
            ids = run["prompt_ids"] + run["ids"]
            return score(ids)[len(run["prompt_ids"]) - 1:-1]

        base = llama(wide, type_k=f32, type_v=f32, n_batch=1)
        wanted = [rows_of(base, run) for run in runs]
        for run, rows in zip(runs, wanted):
            best = rows.argmax(axis=1)
            assert all(b == i or n in run["near_ties"]
                       for n, (b, i) in enumerate(zip(best, run["ids"]))), "llama.cpp in f32"
        for name, kind in (("f16", f16), ("q8_0", q8)):
            score = llama(wide, type_k=kind, type_v=kind, n_batch=1, flash_attn=True)
            found["kv"][name] = distance(
                (rows_of(score, run), rows, run["ids"]) for run, rows in zip(runs, wanted))
    lines.append({"peer": f"llama-cpp-python {llama_cpp.__version__}", **found})
    print(json.dumps(lines[-1], indent=1))
    out = oracle.GOLDEN / "stored_smollm2.jsonl"
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
