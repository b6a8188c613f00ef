#!/usr/bin/env python3
"""Opens folders that retort wrote with transformers and compares them with the originals.

usage: check_model_folders.py REWRITE_TOOL [GGUF]      (run in the peers venv)
The tool is build/release/bin/retort_rewrite_model (ninja retort_rewrite_model). Weights must be
equal to the bit (f32; bf16 after rounding), configs equal in what transformers reads, tokenizers
equal on the checked-in GSM8K lines. --print NAME ROW (with a GGUF) prints weights for
tests/unit/model/smollm2_test.cc.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

import oracle

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
IGNORED = {"_name_or_path", "_model_name_or_path", "quantization_config", "dtype", "torch_dtype",
           "architectures", "unk_token_id", "transformers_version"}


def load(path, **kwargs):
    path = pathlib.Path(path)
    if path.is_file():
        kwargs["gguf_file"], path = path.name, path.parent
    model = transformers.AutoModelForCausalLM.from_pretrained(path, **kwargs)
    kwargs.pop("dtype", None)
    return model, transformers.AutoTokenizer.from_pretrained(path, **kwargs)


def texts():
    for line in (FIXTURES / "gsm8k" / "test_small.jsonl").open(encoding="utf-8"):
        record = json.loads(line)
        yield record["question"] + " <|im_end|>\n" + record["answer"]


def differences(a, b, store):
    (model_a, tok_a), (model_b, tok_b) = a, b
    state_a, state_b = model_a.state_dict(), model_b.state_dict()
    if state_a.keys() != state_b.keys():
        yield f"tensors: {sorted(state_a.keys() ^ state_b.keys())}"
        return
    for name, want in state_a.items():
        if not torch.equal(want.to(store), state_b[name]):
            yield f"weights of {name}"
    config_a, config_b = model_a.config.to_dict(), model_b.config.to_dict()
    for key in sorted((config_a.keys() | config_b.keys()) - IGNORED):
        x, y = config_a.get(key), config_b.get(key)
        close = isinstance(x, float) and isinstance(y, float) and abs(x - y) <= 1e-6 * abs(x)
        if x != y and not close:  # 1e-6: a GGUF holds f32
            yield f"config {key}: {x} and {y}"
    for text in texts():
        if tok_a.encode(text) != tok_b.encode(text):
            yield f"token ids of {text[:60]!r}"
            return


def check(tool, source, store):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([tool, str(source), folder, store], check=True)
        dtype = torch.bfloat16 if store == "bf16" else torch.float32
        found = list(differences(load(source, dtype=torch.float32), load(folder, dtype="auto"), dtype))
    print(f"{source} {store}: {'equal' if not found else found}")
    return not found


def main():
    if "--print" in sys.argv:
        model, _ = load(sys.argv[2], dtype=torch.float32)
        at = sys.argv.index("--print")
        row = model.state_dict()[sys.argv[at + 1]][int(sys.argv[at + 2])]
        print([float(x).hex() for x in row[:5]])
        return 0
    tool, sources = sys.argv[1], [FIXTURES / name for name in oracle.FAMILIES]
    sources += [pathlib.Path(p) for p in sys.argv[2:]]
    results = [check(tool, source, store) for source in sources for store in ("f32", "bf16")]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
