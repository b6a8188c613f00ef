#!/usr/bin/env python3
"""Reference numbers for the losses over pairs (dpo, bradley_terry): DPOTrainer._compute_loss and
RewardTrainer.compute_loss of TRL themselves, with a model that gives this script's log-probabilities and
rewards, and autograd's derivatives.

Usage: make_preference_goldens.py       writes tests/golden/plugin_preference.txt
Inputs as in make_policy_goldens.py, sequences 0, 2 … preferred to 1, 3 …. Per case `case NAME PLUGIN CONFIG`,
then the loss, the metrics, and the derivatives by logp and by value of every completion token.
SPDX-License-Identifier: Apache-2.0
"""
import collections
import json
import types

import torch
import torch.nn.functional as F
import trl
from make_plugin_goldens import GOLDEN, Sequence
from make_policy_goldens import Accelerator, tensors
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.reward_trainer import RewardTrainer

BATCH = [(2, 5), (1, 3), (3, 2), (1, 7), (2, 4), (1, 1)]
NO_SEQUENCE = 99
TARGETS = (1.0, 0.25)


def by_preference(x):
    """TRL's order: all preferred answers, then all others."""
    return torch.cat([x[0::2], x[1::2]])


def trl_self(config):
    accelerator = Accelerator()
    accelerator.device = "cpu"
    return types.SimpleNamespace(
        model=types.SimpleNamespace(training=True), accelerator=accelerator, aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[config.get("loss_type", "sigmoid")],
        loss_weights=[1.0], beta=config.get("beta", 0.1), label_smoothing=config.get("label_smoothing", 0.0),
        use_weighting=False, _metrics={"train": collections.defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
        args=types.SimpleNamespace(center_rewards_coefficient=config.get("center_rewards_coefficient")))


def dpo(config, data):
    self = trl_self(config)
    mask = by_preference(data["mask"])
    logp, ref = (by_preference(data[name] * data["mask"]) for name in ("logp", "ref"))
    outputs = types.SimpleNamespace(log_probs=logp, entropy=logp, mean_logits=logp, is_top1=mask.bool())
    ref_chosen, ref_rejected = ref.sum(-1).chunk(2)
    # TRL's tensors begin with a prompt token that nothing predicts.
    whole = F.pad(mask, (1, 0))
    inputs = {"completion_mask": whole, "input_ids": whole.long(), "attention_mask": whole,
              "ref_chosen_logps": ref_chosen, "ref_rejected_logps": ref_rejected}
    loss = DPOTrainer._compute_loss(self, lambda **_: outputs, inputs, False)
    return loss, self


def smoothed(config, data):
    """Label smoothing of the sigmoid loss, which TRL ignores: the definition (Mitchell's cDPO)."""
    margin = ((data["logp"] - data["ref"]) * data["mask"]).sum(-1)
    h, e = config["beta"] * (margin[0::2] - margin[1::2]), config["label_smoothing"]
    return (-(1 - e) * F.logsigmoid(h) - e * F.logsigmoid(-h)).mean(), trl_self(config)


def reward(config, data):
    self = trl_self(config)
    last = [int(row.nonzero()[-1]) for row in data["mask"]]
    values = torch.stack([row[t] for row, t in zip(data["value"], last)])
    inputs = {"attention_mask": data["mask"]}
    if config.get("margin"):
        inputs["margin"] = TARGETS[0] - TARGETS[1]
    outputs = types.SimpleNamespace(logits=by_preference(values)[:, None])

    def model(attention_mask, use_cache, margin=None):
        return outputs

    return RewardTrainer.compute_loss(self, model, inputs), self


CASES = {
    "dpo": ("dpo", dpo, {}),
    "dpo_strong": ("dpo", dpo, {"beta": 2.0}),
    "dpo_smoothed": ("dpo", smoothed, {"beta": 0.5, "label_smoothing": 0.2}),
    "robust": ("dpo", dpo, {"loss_type": "robust", "beta": 0.5, "label_smoothing": 0.1}),
    "hinge": ("dpo", dpo, {"loss_type": "hinge", "beta": 1.0}),
    "ipo": ("dpo", dpo, {"loss_type": "ipo", "beta": 0.4}),
    "sigmoid_norm": ("dpo", dpo, {"loss_type": "sigmoid_norm", "beta": 2.0}),
    "reward": ("bradley_terry", reward, {}),
    "reward_centred": ("bradley_terry", reward, {"center_rewards_coefficient": 0.01}),
    "reward_margin": ("bradley_terry", reward, {"center_rewards_coefficient": 0.1, "margin": True}),
}
METRICS = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
           "logps/rejected", "accuracy", "margin", "mean_reward")


def numbers_of(oracle, config):
    data = tensors(BATCH, Sequence(2026), NO_SEQUENCE)
    leaves = [data[name].requires_grad_() for name in ("logp", "value")]
    loss, self = oracle(config, data)
    loss.backward()
    yield [loss.item()]
    yield [x for key, values in self._metrics["train"].items() if key in METRICS for x in (key, values[0])]
    for leaf in leaves:
        yield [0.0 if leaf.grad is None else leaf.grad[s, t].item()
               for s, (_, completion) in enumerate(BATCH) for t in range(completion)]


def main():
    lines = ["# SPDX-License-Identifier: Apache-2.0",
             f"# Made by tests/peers/make_preference_goldens.py with TRL {trl.__version__}, torch "
             f"{torch.__version__.split('+')[0]}."]
    for name, (plugin, oracle, config) in CASES.items():
        lines.append(f"case {name} {plugin} {json.dumps(config)}")
        lines += [" ".join(x if isinstance(x, str) else repr(float(x)) for x in row)
                  for row in numbers_of(oracle, config)]
    (GOLDEN / "plugin_preference.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
