#!/usr/bin/env python3
"""Opens the GGUF files that `retort model convert` writes with llama.cpp and compares greedy tokens.

usage: check_gguf.py PROGRAM [MODEL...] [options]      (run in the peers venv)
PROGRAM is build/release/bin/retort. Models: the fixtures of all families and those named (folders
or GGUF files). For each type, llama.cpp and transformers (f32, on the weights that the file holds:
the file converted back to a folder) continue the same prompts; tokens are compared position by
position, each given the reference's tokens before it. f32 must agree everywhere. With the other
types llama.cpp rounds activations, to 8 bits even: there, tokens may differ where the reference's
two best are nearly tied (their logits within a fifth of the logits' deviation), which happens in
random models (with experts one position in 32 is free, too: rounding may send a token to another
expert), and must agree in 98 of 100 positions in trained ones (files and folders that are named). gguf's own reader must read every file.
Beside the families: phi3 with longrope, below and beyond its first context, and a llama with a
SentencePiece tokenizer, of which llama.cpp must give transformers' ids for all texts of
tokenizer_texts.py.

llama.cpp has no place for some facts of the fixtures. They are changed in a copy, so that both
sides run the same model; what is changed is printed:
  mistral, mixtral, phi3   no sliding window (llama.cpp runs them without)
  gemma2, gemma3  query_pre_attn_scalar = head_dim
  qwen*_moe       experts in every layer, with random weights of the same config
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy
import torch
import transformers

from tokenizer_texts import TEXTS, random_texts

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2",
            "qwen2_moe", "qwen3_moe", "mixtral"]
CHANGES = {
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": None},
    "phi3": {"sliding_window": None},
    "gemma2": {"query_pre_attn_scalar": "head_dim"},
    "gemma3_text": {"query_pre_attn_scalar": "head_dim"},
}
PIECES = FIXTURES.parent / "golden" / "tokenizers" / "pieces.json"
LONGROPE = {"rope_type": "longrope", "type": "longrope", "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5, "short_factor": [1.0, 1.25], "long_factor": [2.0, 3.5]}
# Of a fixture: keys of its config, and the tokenizer instead of its own.
VARIANTS = {  # a context of 4: every prompt is beyond it
    "phi3_short": ("phi3", {"rope_parameters": LONGROPE}, None),
    "phi3_long": ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 4}, None),
    "llama_pieces": ("llama", {}, PIECES),
}
TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"]
PROMPTS = ["Natalia sold clips to 48 of her friends", "The answer is"]


def run(program, *words):
    subprocess.run([program, "model", *map(str, words), "--quiet"], check=True,
                   stdout=subprocess.DEVNULL)


def variant(name, folder):
    """A fixture's copy with other keys, or another tokenizer."""
    base, keys, tokenizer = VARIANTS[name]
    shutil.copytree(FIXTURES / base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))
    if tokenizer is not None:
        shutil.copy(tokenizer, folder / "tokenizer.json")
        (folder / "tokenizer_config.json").write_text(json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
             "unk_token": "<unk>"}))
    return folder


def check_ids(path, folder):
    """Whether llama.cpp gives transformers' ids of many texts."""
    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [t for t in TEXTS + random_texts(80, 3, ["</s>", "<think>"]) if t and "\0" not in t]
    wrong = [t for t in texts
             if llama.tokenize(t.encode(), add_bos=True, special=True) != tokenizer(t).input_ids]
    print(f"ids of {len(texts)} texts: {len(wrong)} differ {wrong[:3]}")
    return not wrong


def prepared(source, folder):
    """A folder that both sides can run; and what was changed in it."""
    if source.is_file():
        return source, {}
    config = json.loads((source / "config.json").read_text())
    changes = {}
    for key, value in CHANGES.get(config["model_type"], {}).items():
        value = config.get(value) if isinstance(value, str) else value
        if config.get(key) != value:
            changes[key] = value
    if config.get("mlp_only_layers"):
        changes["mlp_only_layers"] = []
    if not changes:
        return source, {}
    shutil.copytree(source, folder)
    if "mlp_only_layers" in changes:
        torch.manual_seed(0)
        made = transformers.AutoConfig.from_pretrained(source, mlp_only_layers=[])
        model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.float32)
        model.save_pretrained(folder)
        return folder, changes
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder, changes


def reference(folder, n_tokens):
    """Greedy tokens by transformers in f32: [(prompt, its ids, continuation, logits)]; end ids."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    runs = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_tokens,
                             min_new_tokens=n_tokens, do_sample=False, top_k=None, top_p=None,
                             temperature=None)
        # min_new_tokens bans the ends of text: so does the comparison below.
        with torch.no_grad():
            logits = model(out[:, :-1]).logits[0, ids.shape[1] - 1:].numpy()
        runs.append((prompt, ids[0].tolist(), out[0, ids.shape[1]:].tolist(), logits))
    ends = model.generation_config.eos_token_id
    return runs, [ends] if isinstance(ends, int) else list(ends or [])


def agreements(path, runs, ends):
    """Positions at which llama.cpp's best token is the reference's, those at which it is nearly
    as good there, of how many; and whether the prompts have the reference's ids."""
    # Keys and values in f32 too: by default llama.cpp caches them in f16.
    llama = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1,
                            type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    same, near, total, ids_equal = 0, 0, 0, True
    for prompt, ids, tokens, logits in runs:
        mine = llama.tokenize(prompt.encode(), add_bos=True, special=True)
        ids_equal &= mine == ids
        llama.reset()
        llama.eval(ids + tokens[:-1])
        scores = numpy.array(llama.scores[len(ids) - 1:len(ids) - 1 + len(tokens)])
        scores[:, ends] = -numpy.inf
        best = scores.argmax(axis=1).tolist()
        for row, mine, wanted in zip(logits, best, tokens):
            same += mine == wanted
            near += mine != wanted and row[wanted] - row[mine] < 0.2 * row.std()
        total += len(tokens)
    return same, near, total, ids_equal


def check(program, source, trained, types, n_tokens, scratch):
    name, good = source.name, True
    model, changes = prepared(source, scratch / "changed")
    if changes:
        print(f"{name}: compared with {changes}")
    for kind in types:
        path, back = scratch / f"{kind}.gguf", scratch / f"{kind}-back"
        run(program, "convert", model, path, "--type", kind)
        gguf.GGUFReader(path)
        if name == "llama_pieces" and kind == types[0]:
            good &= check_ids(path, model)
        run(program, "convert", path, back, "--type", "f32")
        runs, ends = reference(back, n_tokens)
        try:
            same, near, total, ids_equal = agreements(path, runs, ends)
        except ValueError as error:
            print(f"{name} {kind}: llama.cpp does not open it: {error}")
            good = False
            continue
        if kind == "f32":
            enough = same == total
        else:
            free = total // 32 if name.endswith("_moe") or name == "mixtral" else 0
            enough = same >= 0.98 * total if trained else same + near >= total - free
        verdict = "ok" if enough and ids_equal else "DIFFERS"
        good &= verdict == "ok"
        ids = "" if ids_equal else ", prompt ids differ"
        ties = f", {near} near ties" if near else ""
        print(f"{name} {kind}: {same} of {total} tokens{ties}{ids}: {verdict}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--only-named", action="store_true", help="leave the fixtures out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    sources = [(FIXTURES / name, False) for name in FAMILIES if (FIXTURES / name).is_dir()]
    sources = [] if args.only_named else sources
    results = []
    for name in [] if args.only_named else VARIANTS:
        with tempfile.TemporaryDirectory() as scratch:
            # Narrow types are the families' business.
            results.append(check(args.program, variant(name, pathlib.Path(scratch) / name), False,
                                 ["f32", "f16"], args.tokens, pathlib.Path(scratch)))
    for source, trained in sources + [(path, True) for path in args.models]:
        with tempfile.TemporaryDirectory() as scratch:
            results.append(check(args.program, source, trained, args.types.split(","),
                                 args.tokens, pathlib.Path(scratch)))
    print(f"{sum(results)} of {len(results)} models agree")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
