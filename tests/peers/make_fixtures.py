#!/usr/bin/env python3
"""Writes the small random model folders of tests/fixtures with transformers, by fixed seeds.

One byte-level BPE of 512 entries (qwen2 split pattern, trained on the checked-in GSM8K lines) is
shared by all families, each saved in another way, so that readers meet every form:
  llama  f32, tied head, two shards with an index, config as transformers 5 writes it
  qwen2  bf16, own head, query/key/value biases, config in transformers' older spelling
  qwen3  f32, tied head, head_dim that is not hidden_size / heads, rope base 1e6
  mistral      bf16, own head, a sliding window shorter than the texts, head_dim 12
  olmo2        f32, tied head, norms after attention and MLP, q and k normed over all heads
  gemma2       bf16, tied head, soft caps that bite, a window in layer 0 only
  phi3         bf16, own head, fused projections, half of each head rotated, a window
  gemma3_text  bf16, tied head, normed heads, two rope bases, windows in layers 0 and 2 of 3
  qwen2_moe    bf16, own head, layer 0 dense, a shared expert, weights as they are
  qwen3_moe    bf16, tied head, normed heads, one dense layer between two of experts, weights normed
  mixtral      bf16, own head, a window, the load-balancing loss in the loss
Run it in the peers venv (tests/peers/setup.sh); running it again changes no byte.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import shutil

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers import processors

import oracle

ROOT = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# Equal to the template in SmolLM2's GGUF, byte for byte: built-in renderers go by its hash.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}")
COMMON = dict(vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
              num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
              initializer_range=0.3, bos_token_id=None, eos_token_id=2, pad_token_id=0)


def gsm8k_text():
    for line in (ROOT / "gsm8k" / "train_small.jsonl").open(encoding="utf-8"):
        record = json.loads(line)
        yield record["question"] + "\n" + record["answer"]


def train_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=[AddedToken(s, special=True) for s in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(gsm8k_text(), trainer)
    assert tokenizer.get_vocab_size() == 512
    return tokenizer


def write_tokenizer(folder, tokenizer):
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>", "model_max_length": 2048, "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def randomise(model, norm, head_norm):
    """Norm weights around `norm` (of heads: `head_norm`) and biases away from 0, so that a forgotten one shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                around = head_norm if "q_norm" in name or "k_norm" in name else norm
                parameter.copy_(around + 0.2 * torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.copy_(0.3 * torch.randn_like(parameter))


def old_spelling(folder):
    """rope_theta and torch_dtype at the top level, as before transformers 5."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make(name, seed, config, dtype, tokenizer, shard="1GB", norm=1.0, head_norm=1.0):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.float32)
    randomise(model, norm, head_norm)
    model.generation_config = transformers.GenerationConfig(eos_token_id=[2, 0], pad_token_id=0)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    write_tokenizer(folder, tokenizer)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def main():
    tokenizer = train_tokenizer()
    make("llama", 1, transformers.LlamaConfig(
        **COMMON, tie_word_embeddings=True, rms_norm_eps=1e-5), torch.float32, tokenizer, "80KB")
    folder = make("qwen2", 2, transformers.Qwen2Config(
        **COMMON, tie_word_embeddings=False, rms_norm_eps=1e-6), torch.bfloat16, tokenizer)
    old_spelling(folder)
    make("qwen3", 3, transformers.Qwen3Config(
        **COMMON, head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}), torch.float32, tokenizer)
    window = dict(sliding_window=24)
    # Gemma's norms multiply by 1 + weight. At 0 the scaled embedding, which is the head too, would
    # outweigh the blocks, and greedy decoding would repeat one token.
    make("mistral", 4, transformers.MistralConfig(
        **COMMON, **window, head_dim=12, tie_word_embeddings=False, rms_norm_eps=1e-5),
         torch.bfloat16, tokenizer)
    make("olmo2", 5, transformers.Olmo2Config(
        **COMMON, tie_word_embeddings=True, rms_norm_eps=1e-6, rope_parameters={
            "rope_type": "default", "rope_theta": 5e5}), torch.float32, tokenizer)
    make("gemma2", 6, transformers.Gemma2Config(
        **COMMON, **window, head_dim=16, query_pre_attn_scalar=24, attn_logit_softcapping=5.0,
        final_logit_softcapping=12.0), torch.bfloat16, tokenizer, norm=2.0, head_norm=0.0)
    make("phi3", 7, transformers.Phi3Config(
        **COMMON, **window, tie_word_embeddings=False, rms_norm_eps=1e-5, rope_parameters={
            "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
         torch.bfloat16, tokenizer)
    make("gemma3_text", 8, transformers.Gemma3TextConfig(
        **{**COMMON, "num_hidden_layers": 3}, **window, head_dim=16, query_pre_attn_scalar=24,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}),
         torch.bfloat16, tokenizer, norm=2.0, head_norm=0.0)
    experts = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=12)
    make("qwen2_moe", 9, transformers.Qwen2MoeConfig(
        **COMMON, **experts, shared_expert_intermediate_size=20, mlp_only_layers=[0],
        tie_word_embeddings=False, rms_norm_eps=1e-6), torch.bfloat16, tokenizer)
    make("qwen3_moe", 10, transformers.Qwen3MoeConfig(
        **{**COMMON, "num_hidden_layers": 3, "intermediate_size": 32}, **{**experts, "num_experts": 8},
        head_dim=8, norm_topk_prob=True, mlp_only_layers=[1], tie_word_embeddings=True,
        rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
         torch.bfloat16, tokenizer)
    make("mixtral", 11, transformers.MixtralConfig(
        **{**COMMON, "intermediate_size": 24}, **window, num_local_experts=4, num_experts_per_tok=2,
        output_router_logits=True, router_aux_loss_coef=0.05, tie_word_embeddings=False,
        rms_norm_eps=1e-5), torch.bfloat16, tokenizer)
    for folder in oracle.FAMILIES:
        size = sum(f.stat().st_size for f in (ROOT / folder).iterdir())
        assert size <= 200_000, (folder, size)
        print(folder, size, "bytes")


if __name__ == "__main__":
    main()
