"""Training steps beside transformers and peft: dense, of mixed lengths, with LoRA.

SPDX-License-Identifier: Apache-2.0
"""
import gc

import torch

import oracle
from bench import hf, models, pairs
from bench.ours import Ours, documents

BARS = {"C1": 3.0, "C2": 1.3, "C3": 1.2, "SmolLM2": 1.15}
STEPS = {"C1": 60, "C2": 6, "C3": 1, "SmolLM2": 2}


def path_of(name):
    return models.smollm2() if name == "SmolLM2" else models.shape_folder(name)


def compare(work, peer, bar, model, ours, theirs_batches, ours_batches, n_tokens, turns):
    """The first two steps must agree; then both sides take turns over the same batches."""
    pairs.equal_losses(model.train(theirs_batches[:2]), ours.train(ours_batches[:2]))

    def rate(side, batches):
        return lambda: n_tokens / sum(side.train(batches)["seconds"])
    result = pairs.paired(work, "tok/s", peer, bar, rate(model, theirs_batches),
                          rate(ours, ours_batches), turns)
    del model
    gc.collect()
    return result


def work_of(name, batch):
    return f"train {name} {len(batch)} x {len(batch[0])}"


def dense(name, driver, threads, turns=5, **environment):
    batch = models.rows(name)
    steps = STEPS[name]
    ours = Ours(driver, threads, **environment)
    ours.open(path_of(name))
    model = hf.HF(path_of(name), threads)
    n = max(steps, 2)
    result = compare(work_of(name, batch), "transformers", BARS[name],
                     model, ours, [hf.batches_of(batch)] * n, [documents(batch)] * n,
                     n * sum(map(len, batch)), turns)
    ours.close()
    return result


def real_documents(n, vocab):
    """GSM8K problems with solutions as ids below vocab; the problem's labels are masked."""
    tokenizer = hf.tokenizer(models.smollm2())
    records = oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl")
    found = []
    for i in range(n):
        record = records[i % len(records)]
        ask = tokenizer(record["question"] + "\n").input_ids
        answer = tokenizer(record["answer"]).input_ids
        ids = [t % vocab for t in ask + answer]
        labels = [-100] * len(ask) + ids[len(ask):]
        found.append((ids, labels))
    return found


def ragged(driver, threads, turns=5, **environment):
    """16 documents a step; the peer gets them grouped by length and padded, as its Trainer would."""
    found = sorted(real_documents(64, 8192), key=lambda d: len(d[0]))
    groups = [found[i:i + 16] for i in range(0, 64, 16)]
    theirs, mine = [], []
    for group in groups:
        width = max(len(ids) for ids, _ in group)
        pad = lambda row, value: row + [value] * (width - len(row))  # noqa: E731
        theirs.append({"ids": torch.tensor([pad(ids, 0) for ids, _ in group]),
                       "labels": torch.tensor([pad(labels, -100) for _, labels in group]),
                       "mask": torch.tensor([pad([1] * len(ids), 0) for ids, _ in group])})
        mine.append([{"ids": ids, "labels": labels[1:] + [-100]} for ids, labels in group])
    ours = Ours(driver, threads, **environment)
    ours.open(path_of("C2"))
    result = compare("train C2, real documents, half the labels", "transformers, padded", 1.8,
                     hf.HF(path_of("C2"), threads), ours, theirs, mine,
                     sum(len(ids) for ids, _ in found), turns)
    ours.close()
    return result


def lora(driver, threads, turns=5, **environment):
    batch = models.rows("SmolLM2")
    ours = Ours(driver, threads, **environment)
    ours.open(models.smollm2(), lora={"r": 16, "alpha": 32})
    model = hf.HF(models.smollm2(), threads, lora={"r": 16, "alpha": 32})
    theirs = model.train([hf.batches_of(batch)])
    mine = ours.train([documents(batch)])
    # A differs (each side draws its own) and B starts at zero: only the first loss is comparable.
    assert abs(mine["losses"][0] / theirs["losses"][0] - 1) < 1e-4, (theirs, mine)
    n_tokens = 2 * sum(map(len, batch))

    def rate(side, batches):
        return lambda: n_tokens / sum(side.train(batches)["seconds"])
    result = pairs.paired("train SmolLM2 2 x 512, LoRA r 16 all-linear", "tok/s", "peft", 1.4,
                          rate(model, [hf.batches_of(batch)] * 2),
                          rate(ours, [documents(batch)] * 2), turns)
    ours.close()
    return result
