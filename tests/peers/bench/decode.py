"""Decoding and prefill beside transformers and llama.cpp; shared prompts.

SPDX-License-Identifier: Apache-2.0
"""
import torch

from bench import hf, llama, models, pairs
from bench.ours import Ours
from bench.train import path_of, real_documents

NEW = 64


def prompts_of(name, batch, length=32):
    """Real text for SmolLM2, random ids for the random models; all of one length."""
    if name != "SmolLM2":
        return [row[:length] for row in models.rows("C3", seed=3)] * batch
    text = [i for ids, _ in real_documents(3 * batch + 8, 49152) for i in ids]
    return [text[i * length:(i + 1) * length] for i in range(batch)]


def agreement(theirs, ours):
    """Share of equal tokens up to the first difference of each sequence, which then go apart."""
    same = total = 0
    for a, b in zip(theirs, ours, strict=True):
        equal = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), len(a))
        same, total = same + equal, total + len(a)
    return same / total


def beside_transformers(name, batch, bar, driver, threads, storage="f32", turns=5, **environment):
    """Prefill, and the token that it gives, is left out: the peer's time without it is a difference."""
    prompts = prompts_of(name, batch)
    ours = Ours(driver, threads, **environment)
    ours.open(path_of(name), storage)
    model = hf.HF(path_of(name), threads)
    new = 12 if name == "C3" else NEW
    theirs_ids, ours_ids = model.generate(prompts, new)["ids"], ours.generate(prompts, new)["ids"]
    if storage == "f32":
        assert theirs_ids == ours_ids, "greedy tokens differ: nothing is timed"

    def theirs():
        whole = model.generate(prompts, new)["seconds"]
        return batch * (new - 1) / (whole - model.generate(prompts, 1)["seconds"])

    def mine():
        return batch * (new - 1) / ours.generate(prompts, new)["decode_seconds"]
    result = pairs.paired(f"decode {name}, batch {batch}, {storage}", "tok/s", "transformers f32",
                          bar, theirs, mine, turns)
    ours.close()
    return result


def open_both(retort, kind, driver, threads, **environment):
    path = models.quantized(retort, kind)
    ours = Ours(driver, threads, **environment)
    ours.open(path, "f32" if kind == "f32" else "auto")
    return llama.Llama(path, threads), ours


def beside_llama(retort, kind, bar, driver, threads, turns=5, **environment):
    """Batch 1; prefill left out on both sides."""
    peer, ours = open_both(retort, kind, driver, threads, **environment)
    prompt = prompts_of("SmolLM2", 1)[0]
    share = agreement([peer.generate(prompt, NEW)["ids"]], ours.generate([prompt], NEW)["ids"])
    note = "" if share == 1 else f" (first {share:.0%} of tokens equal)"

    def theirs():
        return (NEW - 1) / peer.generate(prompt, NEW)["decode_seconds"]

    def mine():
        return (NEW - 1) / ours.generate([prompt], NEW)["decode_seconds"]
    result = pairs.paired(f"decode SmolLM2, batch 1, {kind}{note}", "tok/s", "llama.cpp", bar,
                          theirs, mine, turns)
    ours.close()
    return result


def prefill(retort, kind, bar, driver, threads, turns=5, **environment):
    peer, ours = open_both(retort, kind, driver, threads, **environment)
    prompt = prompts_of("SmolLM2", 1, 512)[0]

    def theirs():
        return 512 / peer.generate(prompt, 1)["prefill_seconds"]

    def mine():
        return 512 / ours.generate([prompt], 1)["prefill_seconds"]
    result = pairs.paired(f"prefill 512 tokens, SmolLM2, {kind}", "tok/s", "llama.cpp", bar, theirs,
                          mine, turns)
    ours.close()
    return result


def shared_prompt(driver, threads):
    """Prompt tokens that went through the model: 8 samples of one prompt, 8 separate prompts."""
    ours = Ours(driver, threads)
    ours.open(models.smollm2())
    prompts = prompts_of("SmolLM2", 8, 256)
    one = ours.generate(prompts[:1], 8, n=8)["prompt_tokens"]
    many = ours.generate(prompts, 8)["prompt_tokens"]
    ours.close()
    return pairs.Pair("prefill of 8 samples of one prompt", "tokens", "8 separate prompts", many, one,
                      one / many, one / many, one / many, 1 / 8, lower_is_better=True)


torch.manual_seed(0)
