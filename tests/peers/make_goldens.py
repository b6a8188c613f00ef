#!/usr/bin/env python3
"""Writes tests/golden: what transformers and torch say about the fixtures and SmolLM2's GGUF.

  texts.jsonl             24 GSM8K texts: 12 of train, 12 of test
  logprob_MODEL.jsonl     their token ids and per-token log-probabilities (in f64 throughout)
  greedy_MODEL.jsonl      greedy continuations, the top-2 gap of logits at each step
  sft_MODEL.jsonl         10 SFT steps: documents, loss and grad_norm of each
  gradient_MODEL.jsonl    the first of these windows in f64: its loss, then of the gradient of each
                          tensor of the checkpoint the norm and its products with four fixed vectors
  schedules.jsonl         learning-rate factors of transformers' schedules
The C++ tests beside the files compare retort with them. Names of models and kinds of files to remake
may be given as arguments; default: everything. Run in the peers venv.
SPDX-License-Identifier: Apache-2.0
"""
import os
import sys

import gguf
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers

import oracle

NEAR_TIE = 1e-3
CHAT_PROMPTS = [
    "What is the capital of France, and what is it known for?",
    "Explain in three sentences why the sky is blue.",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?",
    "Write a short poem about a lighthouse in winter.",
    "List five things that one should check before a long bicycle tour.",
    "Tell me how bread rises; mention yeast, sugar and gas. Übrigens: é, 世界, 🙂.",
]


def model_path(name):
    return oracle.smollm2_path() if name == "smollm2" else oracle.FIXTURES / name


def make_texts():
    train = oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl")[:12]
    test = oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "test_small.jsonl")[:12]
    oracle.write_jsonl(oracle.GOLDEN / "texts.jsonl",
                       [{"text": r["question"] + "\n" + r["answer"]} for r in train + test])


def check_gguf(path, model):
    """transformers' weights equal the gguf package's dequantisation, q and k un-permuted."""
    state, heads = model.state_dict(), {"q": 9, "k": 3}
    for tensor in gguf.GGUFReader(path).tensors:
        for short, long in (("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"),
                            ("ffn_down", "mlp.down_proj"), ("attn_norm", "input_layernorm")):
            if not tensor.name.endswith(f"{short}.weight"):
                continue
            value = gguf.dequantize(tensor.data, tensor.tensor_type)
            if short[-1] in heads and short.startswith("attn_"):
                n = heads[short[-1]]
                value = value.reshape(n, 32, 2, -1).swapaxes(1, 2).reshape(value.shape)
            layer = tensor.name.split(".")[1]
            assert np.array_equal(value, state[f"model.layers.{layer}.{long}.weight"].numpy())


def reference_encoder(name, tokenizer):
    """Plain `tokenizers` on the model's own file; for SmolLM2 with its digit splitting, which
    transformers' GGUF reader leaves out (its vocabulary makes both agree)."""
    if name != "smollm2":
        return Tokenizer.from_file(str(oracle.FIXTURES / name / "tokenizer.json"))
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return backend


def make_logprobs(name, model, tokenizer):
    encoder, lines = reference_encoder(name, tokenizer), []
    for record in oracle.read_jsonl(oracle.GOLDEN / "texts.jsonl"):
        ids = tokenizer(record["text"]).input_ids
        assert ids == encoder.encode(record["text"]).ids
        lines.append({"ids": ids, "logprob": [oracle.exact(v) for v in oracle.logprobs(model, ids)]})
    oracle.write_jsonl(oracle.GOLDEN / f"logprob_{name}.jsonl", lines)


@torch.no_grad()
def greedy(model, ids, n_tokens, stop_ids):
    out, gaps, kept, row = [], [], {}, ids
    while len(out) < n_tokens:
        result = model(torch.tensor([row]), use_cache=True, **kept)
        kept, logits = {"past_key_values": result.past_key_values}, result.logits[0, -1]
        top = logits.topk(2)
        out.append(int(top.indices[0]))
        gaps.append(float(top.values[0] - top.values[1]))
        row = out[-1:]
        if out[-1] in stop_ids:
            break
    return out, gaps


def make_greedy(name, model, tokenizer):
    lines = []
    n_tokens = 48 if name == "smollm2" else 32
    eos = model.generation_config.eos_token_id
    stop_ids = set(eos if isinstance(eos, list) else [eos])
    for prompt in CHAT_PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text).input_ids
        out, gaps = greedy(model, ids, n_tokens, stop_ids)
        lines.append({"messages": messages, "prompt": text, "prompt_ids": ids, "ids": out,
                      "gap": [oracle.exact(g) for g in gaps],
                      "near_ties": [i for i, g in enumerate(gaps) if g < NEAR_TIE]})
        print(name, len(out), "tokens, least gap", min(gaps))
    oracle.write_jsonl(oracle.GOLDEN / f"greedy_{name}.jsonl", lines)


def sft_documents(name, tokenizer):
    """Chat-formatted documents as text and ids. SmolLM2's are cut to short questions and the
    first 40 tokens of their answers, to keep the test quick."""
    documents = []
    for record in oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl"):
        messages = [{"role": "user", "content": record["question"]}]
        head = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False,
                                                       add_generation_prompt=True)).input_ids
        completion = record["answer"]
        if name == "smollm2":
            completion = tokenizer.decode(tokenizer(completion).input_ids[:40])
        tail = tokenizer(completion + "<|im_end|>", add_special_tokens=False).input_ids
        if name != "smollm2" or len(head) < 100:
            documents.append({"prompt": record["question"], "completion": completion,
                              "ids": head + tail, "n_prompt": len(head)})
    return documents


def sft_windows(name, tokenizer):
    """10 windows of 2 micro-batches: of two documents for the fixtures, of one for SmolLM2."""
    documents = sft_documents(name, tokenizer)
    each = 2 if name == "smollm2" else 4
    return [documents[i * each:(i + 1) * each] for i in range(10)]


def decay_groups(model, weight_decay):
    """transformers' rule: norms and biases do not decay."""
    skip = ("bias", "layernorm", "rmsnorm", "norm.", "_norm")
    named = [(n.lower(), p) for n, p in model.named_parameters()]
    plain = [p for n, p in named if any(s in n for s in skip)]
    decayed = [p for n, p in named if not any(s in n for s in skip)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def router_loss(model, logits):
    """What transformers adds to the loss of a batch for its routers; logits: of each document a
    tuple of [tokens, experts] by layer. Without padding documents are as if they were one."""
    if not getattr(model.config, "output_router_logits", False):
        return 0.0
    joined = tuple(torch.cat(layer) for layer in zip(*logits))
    module = sys.modules[type(model).__module__]
    loss = module.load_balancing_loss_func(joined, model.num_experts, model.num_experts_per_tok)
    return model.router_aux_loss_coef * loss


def loss_of(model, documents, count, share):
    """Of one micro-batch, whose tokens are `share` of its window's."""
    loss, routers = 0.0, []
    for document in documents:
        ids, first = torch.tensor([document["ids"]]), document["n_prompt"]
        result = model(ids)
        routers.append(getattr(result, "router_logits", None) or ())
        logits = result.logits[0, first - 1:-1]
        loss = loss + torch.nn.functional.cross_entropy(logits, ids[0, first:],
                                                        reduction="sum") / count
    return loss + share * router_loss(model, routers)


def make_sft(name, model, tokenizer):
    options = {"learning_rate": 1e-4 if name == "smollm2" else 3e-3, "weight_decay": 0.1,
               "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "max_grad_norm": 1.0,
               "per_device": 1 if name == "smollm2" else 2, "accumulation": 2}
    optimizer = torch.optim.AdamW(decay_groups(model, options["weight_decay"]),
                                  lr=options["learning_rate"], betas=(0.9, 0.999), eps=1e-8)
    model.train()
    lines = [{"options": options}]
    for window in sft_windows(name, tokenizer):
        count = sum(len(d["ids"]) - d["n_prompt"] for d in window)
        total, tokens, each = 0.0, sum(len(d["ids"]) for d in window), options["per_device"]
        for at in range(0, len(window), each):
            batch = window[at:at + each]
            loss = loss_of(model, batch, count, sum(len(d["ids"]) for d in batch) / tokens)
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), options["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        lines.append({"documents": window, "label_tokens": count, "loss": total,
                      "grad_norm": oracle.exact(norm)})
        print(name, "loss", total, "grad_norm", float(norm))
    oracle.write_jsonl(oracle.GOLDEN / f"sft_{name}.jsonl", lines)


def checkpoint_tensors(model, name, gradient):
    """The gradient of a parameter as those of the tensors that save_pretrained writes."""
    if ".experts." not in name:
        yield name, gradient
        return
    mixtral = model.config.model_type == "mixtral"
    prefix = name.rsplit(".", 1)[0].replace(".mlp.", ".block_sparse_moe." if mixtral else ".mlp.")
    names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    for e, expert in enumerate(gradient):
        parts = expert.chunk(2) if "gate_up" in name else (expert,)
        for part, short in zip(parts, names[:2] if "gate_up" in name else names[2:]):
            yield f"{prefix}.{e}.{short}.weight", part


def checkpoint_name(model, name):
    if model.config.model_type != "mixtral" or ".mlp.gate." not in name:
        return name
    return name.replace(".mlp.", ".block_sparse_moe.")


def make_gradients(name, model, tokenizer):
    """In f64, before any step. Product k is with cos(i * (k + 1)), i the flat index."""
    model.zero_grad()
    window = sft_windows(name, tokenizer)[0]
    count = sum(len(d["ids"]) - d["n_prompt"] for d in window)
    loss = loss_of(model, window, count, 1.0)
    loss.backward()
    lines = [{"ids": [d["ids"] for d in window], "n_prompt": [d["n_prompt"] for d in window],
              "loss": loss.item()}]
    for parameter_name, parameter in model.named_parameters():
        for tensor, gradient in checkpoint_tensors(model, parameter_name, parameter.grad):
            gradient = gradient.flatten()
            at = torch.arange(gradient.numel(), dtype=torch.float64)
            products = [float(gradient @ torch.cos(at * (k + 1))) for k in range(4)]
            lines.append({"name": checkpoint_name(model, tensor), "norm": float(gradient.norm()),
                          "products": products})
    oracle.write_jsonl(oracle.GOLDEN / f"gradient_{name}.jsonl", lines)
    model.zero_grad()


def make_schedules():
    lines = []
    for kind in ("constant", "constant_with_warmup", "linear", "cosine"):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        schedule = transformers.get_scheduler(kind, optimizer, num_warmup_steps=4,
                                              num_training_steps=20)
        factors = []
        for _ in range(20):
            factors.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        lines.append({"kind": kind, "warmup_steps": 4, "max_steps": 20, "factor": factors})
    oracle.write_jsonl(oracle.GOLDEN / "schedules.jsonl", lines)


def main():
    kinds = {"logprob", "greedy", "gradient", "sft"}
    wanted, some = set(sys.argv[1:]) - kinds, kinds & set(sys.argv[1:])
    kinds = some or kinds
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    if not wanted or "texts" in wanted:
        make_texts()
    if not wanted or "schedules" in wanted:
        make_schedules()
    for name in oracle.FAMILIES + ("smollm2",):
        if wanted and name not in wanted:
            continue
        model, tokenizer = oracle.open_model(model_path(name))
        if name == "smollm2":
            check_gguf(model_path(name), model)
        if "sft" in kinds:
            make_sft(name, model, tokenizer)
        model = oracle.to_f64(oracle.open_model(model_path(name))[0])
        with oracle.all_f64():
            if "logprob" in kinds:
                make_logprobs(name, model, tokenizer)
            if "greedy" in kinds:
                make_greedy(name, model, tokenizer)
            if "gradient" in kinds and name != "smollm2":
                make_gradients(name, model, tokenizer)


if __name__ == "__main__":
    main()
