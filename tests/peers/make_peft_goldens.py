#!/usr/bin/env python3
"""Writes adapters made by peft and what peft says about them:

  tests/fixtures/adapters/NAME   a folder of PeftModel.save_pretrained with random A and B
  tests/golden/peft_NAME.jsonl   first a line of the model and the stage's `lora`, then by `kind`:
      logprob   token ids of a text and log-probabilities with the adapter (in f64 throughout)
      gradient  of A and B in the first window in f64: norm and products as in gradient_*.jsonl,
                after one line with the window's loss and ids
      step      one of five SFT steps that train the adapter further: documents, loss, grad_norm
Run in the peers venv; running it again changes no byte.
SPDX-License-Identifier: Apache-2.0
"""
import json
import shutil

import make_goldens
import oracle
import peft
import torch

ROOT = oracle.FIXTURES / "adapters"
N_TEXTS, N_STEPS = 6, 5
# Name of the adapter, of its fixture, and the configs in peft's words and in the pipeline's.
ADAPTERS = (
    ("llama_ranks", "llama",
     {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "rank_pattern": {"q_proj": 2},
      "alpha_pattern": {"model.layers.1.mlp.down_proj": 20}},
     {"r": 4, "alpha": 8, "targets": "all-linear", "rank_pattern": {"q_proj": 2},
      "alpha_pattern": {"model.layers.1.mlp.down_proj": 20}}),
    ("phi3_rslora", "phi3",
     {"r": 3, "lora_alpha": 6, "use_rslora": True,
      "target_modules": ["qkv_proj", "gate_up_proj", "down_proj"]},
     {"r": 3, "alpha": 6, "use_rslora": True, "targets": ["qkv_proj", "gate_up_proj", "down_proj"]}),
    ("qwen2_regex", "qwen2",
     {"r": 8, "lora_alpha": 8, "target_modules": r".*\.1\.self_attn\.[qv]_proj"},
     {"r": 8, "alpha": 8, "targets": ["1.self_attn.q_proj", "1.*.v_proj"]}),
)


def make_folder(name, fixture, config, seed):
    model, _ = oracle.open_model(oracle.FIXTURES / fixture)
    torch.manual_seed(seed)
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for parameter_name, parameter in adapted.named_parameters():
            if "lora_B" in parameter_name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    adapted.peft_config["default"].base_model_name_or_path = f"../../{fixture}"
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text())
    if isinstance(saved["target_modules"], list):
        saved["target_modules"].sort()  # a set in peft: its order differs from run to run
    path.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def open_adapted(folder, fixture):
    model, tokenizer = oracle.open_model(oracle.FIXTURES / fixture)
    adapted = peft.PeftModel.from_pretrained(model, folder, is_trainable=True)
    return adapted.eval(), tokenizer


def trained(model):
    return [(n.removeprefix("base_model.model."), p) for n, p in model.named_parameters()
            if p.requires_grad]


def logprob_lines(model, tokenizer):
    for record in oracle.read_jsonl(oracle.GOLDEN / "texts.jsonl")[:N_TEXTS]:
        ids = tokenizer(record["text"]).input_ids
        yield {"kind": "logprob", "ids": ids,
               "logprob": [oracle.exact(v) for v in oracle.logprobs(model, ids)]}


def gradient_lines(model, window):
    count = sum(len(d["ids"]) - d["n_prompt"] for d in window)
    loss = make_goldens.loss_of(model, window, count, 1.0)
    loss.backward()
    yield {"kind": "window", "ids": [d["ids"] for d in window],
           "n_prompt": [d["n_prompt"] for d in window], "loss": loss.item()}
    for name, parameter in trained(model):
        gradient = parameter.grad.flatten()
        at = torch.arange(gradient.numel(), dtype=torch.float64)
        yield {"kind": "gradient", "name": name, "norm": float(gradient.norm()),
               "products": [float(gradient @ torch.cos(at * (k + 1))) for k in range(4)]}


def step_lines(model, windows, options):
    parameters = [p for _, p in trained(model)]
    optimizer = torch.optim.AdamW(parameters, lr=options["learning_rate"],
                                  betas=(options["beta1"], options["beta2"]), eps=options["eps"],
                                  weight_decay=options["weight_decay"])
    for window in windows:
        count = sum(len(d["ids"]) - d["n_prompt"] for d in window)
        total, each = 0.0, options["per_device"]
        for at in range(0, len(window), each):
            loss = make_goldens.loss_of(model, window[at:at + each], count, 0.5)
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(parameters, options["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        yield {"kind": "step", "documents": window, "loss": total, "grad_norm": oracle.exact(norm)}


def main():
    torch.set_num_threads(2)
    options = {"learning_rate": 3e-3, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
               "max_grad_norm": 1.0, "per_device": 2, "accumulation": 2}
    for seed, (name, fixture, config, lora) in enumerate(ADAPTERS):
        folder = make_folder(name, fixture, config, 40 + seed)
        model, tokenizer = open_adapted(folder, fixture)
        windows = make_goldens.sft_windows(fixture, tokenizer)[:N_STEPS]
        steps = list(step_lines(model, windows, options))
        model = oracle.to_f64(open_adapted(folder, fixture)[0])
        with oracle.all_f64():
            lines = [{"model": fixture, "lora": lora, "options": options},
                     *logprob_lines(model, tokenizer), *gradient_lines(model, windows[0]), *steps]
        oracle.write_jsonl(oracle.GOLDEN / f"peft_{name}.jsonl", lines)


if __name__ == "__main__":
    main()
