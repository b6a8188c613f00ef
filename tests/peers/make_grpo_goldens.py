#!/usr/bin/env python3
"""Reference numbers for the grpo loss from TRL: GRPOTrainer._compute_loss itself, on log-probabilities
given by this script, with autograd's derivatives.

Usage: make_grpo_goldens.py       writes tests/golden/plugin_grpo.txt
Inputs are dyadic rationals from the generator of make_plugin_goldens.py, the same in the C++ test: only
results are stored. Per case a line with the config, then per micro-batch: loss and aux sums and counts,
d_logp and d_entropy of every completion token.
SPDX-License-Identifier: Apache-2.0
"""
import collections
import json
import types

import torch
import trl
from make_plugin_goldens import GOLDEN, Sequence
from trl.trainer.grpo_trainer import GRPOTrainer

# (prompt tokens, completion tokens) of each sequence; sequence 2 of each batch has no scored token.
BATCHES = [[(2, 5), (1, 3), (3, 2), (1, 7)], [(1, 4), (2, 6), (1, 1), (2, 3)]]
MAX_COMPLETION_LENGTH = 9
CASES = {
    "grpo": {"loss_type": "grpo"},
    "grpo_kl": {"loss_type": "grpo", "beta": 0.04, "epsilon": 0.1, "epsilon_high": 0.3},
    "bnpo": {"loss_type": "bnpo", "beta": 0.1},
    "dr_grpo": {"loss_type": "dr_grpo", "epsilon_high": 0.28},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.001},
    "delta": {"loss_type": "dapo", "delta": 1.35},
    "low_delta": {"loss_type": "dapo", "delta": 1.1, "epsilon_high": 0.28},
    "on_policy": {"loss_type": "dapo", "beta": 0.04},
    "sequence": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.02, "beta": 0.04},
    "entropy": {"loss_type": "dr_grpo", "entropy_coef": 0.05},
    "quantile": {"loss_type": "bnpo", "beta": 0.1, "entropy_coef": 0.01},
}


class Accelerator:
    num_processes, sync_gradients = 1, True
    gather = gather_for_metrics = staticmethod(lambda x: x)
    reduce = staticmethod(lambda x, reduction: x)


def is_scored(s, t):
    return s != 2 and t % 4 != 3


def tensors(batch, numbers):
    """Padded [B,T] of what the host would pack, drawn token by token, prompt tokens included."""
    width = max(completion for _, completion in batch)
    names = ["logp", "old", "ref", "entropy", "weight", "mask"]
    out = {name: torch.zeros(len(batch), width, dtype=torch.float64) for name in names}
    advantage = torch.tensor([numbers.next() / 2 for _ in batch], dtype=torch.float64)
    for s, (prompt, completion) in enumerate(batch):
        for t in range(-prompt, completion):
            logp = numbers.next() / 4 - 2
            values = [logp, logp + numbers.next() / 8, logp + numbers.next() / 8, abs(numbers.next()) / 2]
            weight = 1.0 if numbers.next() > 0 else 0.0
            if t < 0:
                continue
            for name, value in zip(names, [*values, weight, float(is_scored(s, t))]):
                out[name][s, t] = value
    return out, advantage


def trainer(name, config, accumulation_steps, data):
    self = types.SimpleNamespace(
        aux_loss_enabled=False, off_policy_mask_threshold=None, use_vllm=False, use_adaptive_entropy=False,
        top_entropy_quantile=0.5 if name == "quantile" else 1.0,
        importance_sampling_level=config.get("importance_sampling_level", "token"),
        beta=config.get("beta", 0.0), loss_type=config["loss_type"],
        epsilon_low=config.get("epsilon", 0.2), epsilon_high=config.get("epsilon_high", config.get("epsilon", 0.2)),
        max_completion_length=MAX_COMPLETION_LENGTH, current_gradient_accumulation_steps=accumulation_steps,
        accelerator=Accelerator(), model=types.SimpleNamespace(training=True),
        args=types.SimpleNamespace(use_bias_correction_kl=False, delta=config.get("delta"),
                                   steps_per_generation=accumulation_steps),
        entropy_coef=config.get("entropy_coef", 0.0), _entropy_bonus_enabled=config.get("entropy_coef", 0.0) != 0,
        _metrics={"train": collections.defaultdict(list)},
    )
    self.get_high_entropy_mask = lambda entropies, mask, threshold: data["weight"]
    self._get_per_token_logps_and_entropies = lambda *a, **k: (data["logp"], data["entropy"], None)
    return self


def numbers_of(name, config):
    numbers = Sequence(2026)
    batches = [tensors(batch, numbers) for batch in BATCHES]
    items = sum(data["mask"].sum() for data, _ in batches)
    for batch, (data, advantage) in zip(BATCHES, batches):
        data["logp"].requires_grad_()
        data["entropy"].requires_grad_()
        self = trainer(name, config, len(BATCHES), data)
        none = torch.zeros(len(batch), 0)
        inputs = {"prompt_ids": none, "prompt_mask": none, "completion_ids": data["mask"],
                  "completion_mask": data["mask"], "advantages": advantage, "ref_per_token_logps": data["ref"],
                  "num_items_in_batch": items}
        if name != "on_policy":
            inputs["old_per_token_logps"] = data["old"]
        loss = GRPOTrainer._compute_loss(self, self.model, inputs)
        loss.backward()
        metrics = {key: values[0] for key, values in self._metrics["train"].items()}
        keys = ["clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "entropy", "kl"]
        yield [loss.item(), *(metrics.get(key, 0.0) for key in keys)]
        for values in (data["logp"].grad, data["entropy"].grad):
            yield [0.0 if values is None else values[s, t].item()
                   for s, (_, completion) in enumerate(batch) for t in range(completion)]


def main():
    lines = ["# SPDX-License-Identifier: Apache-2.0",
             f"# Made by tests/peers/make_grpo_goldens.py with TRL {trl.__version__}, torch "
             f"{torch.__version__.split('+')[0]}."]
    for name, config in CASES.items():
        lines.append(f"case {name} {json.dumps(config)}")
        lines += [" ".join(repr(float(x)) for x in row) for row in numbers_of(name, config)]
    (GOLDEN / "plugin_grpo.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
