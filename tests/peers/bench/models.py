"""The models that are measured: seeded Qwen2 shapes C1 to C3, made once, and SmolLM2-135M.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import subprocess

import oracle
import torch
import transformers

# hidden, layers, heads, key/value heads, feed-forward, vocabulary, tied; batch, tokens of a row
SHAPES = {
    "C1": (64, 2, 4, 2, 128, 512, False, 4, 64),
    "C2": (256, 4, 8, 2, 768, 8192, False, 4, 256),
    "C3": (896, 24, 14, 2, 4864, 151936, True, 1, 512),
}


def cache():
    return pathlib.Path(os.environ.get("RETORT_CACHE", pathlib.Path.home() / ".cache/retort")) / "bench"


def shape_folder(name):
    """An HF folder of a random Qwen2 with that shape; the weights are the same on every machine."""
    folder = cache() / name
    if (folder / "config.json").exists():
        return folder
    hidden, layers, heads, kv_heads, inner, vocab, tied, _, _ = SHAPES[name]
    torch.manual_seed(20)
    config = transformers.Qwen2Config(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, intermediate_size=inner, vocab_size=vocab,
        tie_word_embeddings=tied, max_position_embeddings=4096, bos_token_id=1, eos_token_id=2)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def smollm2():
    return oracle.smollm2_path()


def smollm2_folder(retort):
    """SmolLM2 as an HF folder: its tokenizer.json is what both tokenizers read."""
    folder = cache() / "smollm2"
    if not (folder / "tokenizer.json").exists():
        cache().mkdir(parents=True, exist_ok=True)
        subprocess.run([retort, "model", "convert", smollm2(), folder, "--type", "bf16"], check=True,
                       capture_output=True)
    return folder


def quantized(retort, kind):
    """SmolLM2 as a GGUF of that type: the shipped Q4_1 file, or one that retort writes from it."""
    if kind == "q4_1":
        return smollm2()
    path = cache() / f"smollm2-{kind}.gguf"
    if not path.exists():
        cache().mkdir(parents=True, exist_ok=True)
        subprocess.run([retort, "model", "convert", smollm2(), path, "--type", kind], check=True,
                       capture_output=True)
    return path


def rows(name, seed=0):
    """Token ids [batch][tokens] for a training step of that shape."""
    vocab, batch, tokens = (SHAPES[name][5], *SHAPES[name][7:]) if name in SHAPES else (49152, 2, 512)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab, (batch, tokens), generator=generator).tolist()
