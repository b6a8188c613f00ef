"""transformers' side, f32, with the plain settings that are its fastest on a CPU.

SPDX-License-Identifier: Apache-2.0
"""
import time

import oracle
import torch
import transformers


class HF:
    def __init__(self, path, threads, attention="sdpa", dtype=torch.float32, lora=None):
        torch.set_num_threads(threads)
        where = dict(gguf_file=path.name) if path.suffix == ".gguf" else {}
        folder = path.parent if where else path
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, **where)
        if lora:
            import peft
            self.model = peft.get_peft_model(self.model, peft.LoraConfig(
                r=lora["r"], lora_alpha=lora["alpha"], target_modules="all-linear",
                task_type="CAUSAL_LM"))
        self.optimizer = None

    def train(self, batches, learning_rate=1e-4):
        """batches: [{ids, labels?, mask?}] of tensors [B, T]."""
        self.model.train()
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0,
                                               fused=True)
        losses, norms, seconds = [], [], []
        for batch in batches:
            begin = time.perf_counter()
            loss = self.loss_of(batch)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.item())
            norms.append(norm.item())
            seconds.append(time.perf_counter() - begin)
        return {"losses": losses, "grad_norms": norms, "seconds": seconds}

    def loss_of(self, batch):
        return self.model(input_ids=batch["ids"], labels=batch.get("labels", batch["ids"]),
                          attention_mask=batch.get("mask"), use_cache=False).loss

    def generate(self, prompts, max_tokens):
        """Prompts of one length. Greedy, exactly max_tokens each."""
        self.model.eval()
        self.model.generation_config.eos_token_id = None  # nothing ends a completion early
        ids = torch.tensor(prompts)
        begin = time.perf_counter()
        with torch.no_grad():
            out = self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                max_new_tokens=max_tokens, pad_token_id=0)
        return {"seconds": time.perf_counter() - begin, "ids": out[:, ids.shape[1]:].tolist()}


def batches_of(rows):
    return {"ids": torch.tensor(rows)}


def tokenizer(path):
    return oracle.open_model(path)[1]
