#!/usr/bin/env python3
"""Reference numbers for the policy losses (grpo, rloo, reinforce, ppo): the loss functions of TRL
(GRPOTrainer, RLOOTrainer), verl and torchtune themselves, on log-probabilities given by this script, with
autograd's derivatives.

Usage: make_policy_goldens.py       writes tests/golden/plugin_policy.txt
Inputs are dyadic rationals from the generator of make_plugin_goldens.py, the same in the C++ test: only
results are stored. Per case `case NAME PLUGIN TOLERANCE INPUTS CONFIG` (TOLERANCE: of the oracle, which may
work in f32; INPUTS: side inputs, joined by commas), then per micro-batch five lines: the loss, the metrics
that the oracle has, and the derivatives by logp, entropy and value of every completion token.
SPDX-License-Identifier: Apache-2.0
"""
import collections
import json
import types

import peer_losses
import torch
import trl
from make_plugin_goldens import GOLDEN, Sequence
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

# (prompt tokens, completion tokens) of each sequence; sequence 2 of each batch has no scored token.
BATCHES = [[(2, 5), (1, 3), (3, 2), (1, 7)], [(1, 4), (2, 6), (1, 1), (2, 3)]]
MAX_COMPLETION_LENGTH = 9


class Accelerator:
    num_processes, sync_gradients = 1, True
    gather = gather_for_metrics = staticmethod(lambda x: x)
    reduce = staticmethod(lambda x, reduction: x)


def tensors(batch, numbers, empty=2):
    """Padded [B,T] of what the host would pack, drawn token by token, prompt tokens included. Every fourth
    token is masked, and all of sequence `empty`."""
    width = max(completion for _, completion in batch)
    names = ["logp", "old", "ref", "entropy", "weight", "mask", "behaviour", "value", "old_value", "returns"]
    out = {name: torch.zeros(len(batch), width, dtype=torch.float64) for name in names}
    advantage = torch.tensor([numbers.next() / 2 for _ in batch], dtype=torch.float64)
    for s, (prompt, completion) in enumerate(batch):
        for t in range(-prompt, completion):
            logp = numbers.next() / 4 - 2
            old, ref = logp + numbers.next() / 8, logp + numbers.next() / 8
            entropy, draw = abs(numbers.next()) / 2, numbers.next()
            if t < 0:
                continue
            value = entropy / 2 - 0.5
            values = [logp, old, ref, entropy, float(draw > 0), float(s != empty and t % 4 != 3), old - draw / 4, value,
                      value + ref - logp, value + 2 * (old - logp)]
            for name, x in zip(names, values):
                out[name][s, t] = x
    out["advantage"] = advantage
    return out


class Window:
    """What the losses of all micro-batches are divided by."""

    def __init__(self, batches):
        scored = [data["mask"].sum(-1) for data in batches]
        self.steps = len(batches)
        self.tokens = sum(x.sum() for x in scored)
        self.scored_sequences = sum((x > 0).sum() for x in scored)


def trl_self(config, data, window, inputs):
    """As much of a trainer as its loss looks at."""
    entropy_coef = config.get("entropy_coef", 0.0)
    epsilon = config.get("epsilon", 0.2)
    self = types.SimpleNamespace(
        aux_loss_enabled=False, off_policy_mask_threshold=None, use_adaptive_entropy=False,
        use_vllm="behaviour" in inputs, vllm_importance_sampling_correction=True,
        top_entropy_quantile=0.5 if "weight" in inputs else 1.0,
        importance_sampling_level=config.get("importance_sampling_level", "token"),
        beta=config.get("beta", 0.0), loss_type=config.get("loss_type", "dapo"),
        epsilon_low=epsilon, epsilon_high=config.get("epsilon_high", epsilon),
        max_completion_length=MAX_COMPLETION_LENGTH, current_gradient_accumulation_steps=window.steps,
        accelerator=Accelerator(), model=types.SimpleNamespace(training=True),
        args=types.SimpleNamespace(
            use_bias_correction_kl=config.get("use_bias_correction_kl", False), delta=config.get("delta"),
            steps_per_generation=window.steps, sapo_temperature_pos=config.get("sapo_temperature_pos", 1.0),
            sapo_temperature_neg=config.get("sapo_temperature_neg", 1.05)),
        entropy_coef=entropy_coef, _entropy_bonus_enabled=entropy_coef != 0,
        _metrics={"train": collections.defaultdict(list)},
    )
    self.get_high_entropy_mask = lambda entropies, mask, threshold: data["weight"]
    self._get_per_token_logps_and_entropies = lambda *a, **k: (data["logp"], data["entropy"], None)
    return self


def rollout_ratio(config, data):
    """The mode's definition in TRL's GRPOConfig; TRL works it out while it generates."""
    mode = config.get("rollout_is", "sequence_mask")
    difference = (data["old"] - data["behaviour"]) * data["mask"]
    ratio = (difference.sum(-1, keepdim=True) if mode.startswith("sequence") else difference).exp()
    low, high = config.get("rollout_is_min", 0.0), config.get("rollout_is_max", 3.0)
    if mode.endswith("truncate"):
        return ratio.clamp(low, high)
    return torch.where((ratio >= low) & (ratio <= high), ratio, 0.0)


def trl_inputs(data, window):
    none = torch.zeros(len(data["mask"]), 0)
    return {"prompt_ids": none, "prompt_mask": none, "completion_ids": data["mask"],
            "completion_mask": data["mask"], "advantages": data["advantage"], "ref_per_token_logps": data["ref"],
            "num_items_in_batch": window.tokens}


def trl_grpo(config, data, window, inputs):
    self = trl_self(config, data, window, inputs)
    given = trl_inputs(data, window)
    if "old_logp" in inputs:
        given["old_per_token_logps"] = data["old"]
    if "behaviour" in inputs:
        given["importance_sampling_ratio"] = rollout_ratio(config, data)
    loss = GRPOTrainer._compute_loss(self, self.model, given)
    metrics = {key: values[0] for key, values in self._metrics["train"].items()}
    ours = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio", "entropy", "kl")
    return loss, {key: x for key, x in metrics.items() if key in ours}


def trl_rloo(config, data, window, inputs):
    """TRL adds the constant -A for an answer without tokens; the host's loss leaves it out."""
    self = trl_self(config, data, window, inputs)
    given = trl_inputs(data, window)
    given["advantages"] = data["advantage"] * (data["mask"].sum(-1) > 0)
    given["old_logps"] = (data["old"] * data["mask"]).sum(-1)
    loss = RLOOTrainer._compute_loss(self, self.model, given)
    metrics = {key: values[0] for key, values in self._metrics["train"].items() if not key.endswith(("_min", "_max"))}
    return loss / window.steps, metrics


VERL_MODES = {"dapo": "token-mean", "cispo": "token-mean", "grpo": "seq-mean-token-mean", "luspo": "seq-mean-token-sum",
              "dr_grpo": "seq-mean-token-sum-norm"}


def verl_config(algos, config, window):
    out = object.__new__(algos.ActorConfig)
    epsilon = config.get("epsilon", config.get("cliprange", 0.2))
    cispo = config.get("loss_type") == "cispo"
    values = {"clip_ratio": epsilon, "clip_ratio_low": 1 - config["cispo_min"] if cispo else epsilon,
              "clip_ratio_high": config["epsilon_high"] - 1 if cispo else config.get("epsilon_high", epsilon),
              "clip_ratio_c": config.get("delta", 1e9), "tau_pos": config.get("sapo_temperature_pos", 1.0),
              "tau_neg": config.get("sapo_temperature_neg", 1.05),
              "global_batch_info": {"dp_size": 1, "batch_num_tokens": window.tokens,
                                    "global_batch_size": window.scored_sequences,
                                    "loss_scale_factor": MAX_COMPLETION_LENGTH}}
    for key, x in values.items():
        object.__setattr__(out, key, x)
    return out


def verl(function):
    def oracle(config, data, window, inputs):
        algos = peer_losses.load("verl.trainer.ppo.core_algos")
        settings = verl_config(algos, config, window)
        mode = VERL_MODES[config.get("aggregation", config.get("loss_type", "dapo"))]
        weights = rollout_ratio(config, data) if "behaviour" in inputs else None
        advantage = data["advantage"][:, None].expand_as(data["mask"])
        loss, _ = getattr(algos, function)(data["old"], data["logp"], advantage, data["mask"], mode, settings, weights)
        metrics, info = {}, settings.global_batch_info
        if config.get("beta", 0) > 0:
            kl = algos.kl_penalty(data["logp"], data["ref"], config.get("kl_estimator", "k3"))
            loss = loss + config["beta"] * algos.agg_loss(kl, data["mask"], mode, **info)
            metrics["kl"] = ((kl * data["mask"]).sum() / data["mask"].sum()).item()
        if config.get("vf_coef", 0) > 0:
            value, clipped = algos.compute_value_loss(data["value"], data["returns"], data["old_value"], data["mask"],
                                                      config.get("cliprange_value", 0.2), **info)
            loss = loss + config["vf_coef"] * value
            metrics |= {"value_loss": (value * window.tokens / data["mask"].sum()).item(),
                        "value_clip_ratio": clipped.item()}
        return loss, metrics

    return oracle


def torchtune_ppo(config, data, window, inputs):
    module = peer_losses.load("torchtune.rlhf.loss.ppo")
    ppo = module.PPOLoss(config.get("cliprange", 0.2), config.get("cliprange_value", 0.2), config.get("vf_coef", 0.1))
    mask = data["mask"].bool()
    loss, _, value, _, _ = ppo(data["old"], data["logp"], data["advantage"][:, None], data["old_value"], data["value"],
                               data["returns"], mask, mask)
    # A mean over the micro-batch there.
    return loss * data["mask"].sum() / window.tokens, {"value_loss": value.item()}


def reinforce_sum(config, data, window, inputs):
    """The definition: whole answers, mean over all sequences."""
    logp = (data["logp"] * data["mask"]).sum(-1)
    return -(logp * data["advantage"]).mean() / window.steps, {}


OLD, VALUES = "old_logp", "old_logp,value"
# name: (plugin, oracle, its tolerance, side inputs, config)
CASES = {
    "grpo": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "grpo"}),
    "grpo_kl": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "grpo", "beta": 0.04, "epsilon": 0.1, "epsilon_high": 0.3}),
    "bnpo": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "bnpo", "beta": 0.1}),
    "dr_grpo": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "dr_grpo", "epsilon_high": 0.28}),
    "dapo": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.001}),
    "delta": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "dapo", "delta": 1.35}),
    "low_delta": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "dapo", "delta": 1.1, "epsilon_high": 0.28}),
    "on_policy": ("grpo", trl_grpo, 1e-12, "none", {"loss_type": "dapo", "beta": 0.04}),
    "gspo": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "grpo", "importance_sampling_level": "sequence",
                                            "epsilon": 0.02, "beta": 0.04}),
    "luspo": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "luspo", "importance_sampling_level": "sequence"}),
    "luspo_token": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "luspo", "beta": 0.04}),
    "cispo": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "cispo", "epsilon_high": 1.1, "beta": 0.04}),
    "sapo": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "sapo", "sapo_temperature_neg": 2.0}),
    "entropy": ("grpo", trl_grpo, 1e-12, OLD, {"loss_type": "dr_grpo", "entropy_coef": 0.05}),
    "quantile": ("grpo", trl_grpo, 1e-12, OLD + ",weight", {"loss_type": "bnpo", "beta": 0.1, "entropy_coef": 0.01}),
    "bias_correction": ("grpo", trl_grpo, 1e-12, OLD, {"beta": 0.2, "use_bias_correction_kl": True}),
    "bias_correction_gspo": ("grpo", trl_grpo, 1e-12, OLD, {
        "loss_type": "grpo", "beta": 0.2, "use_bias_correction_kl": True, "importance_sampling_level": "sequence"}),
    "sequence_mask": ("grpo", trl_grpo, 1e-12, OLD + ",behaviour", {"loss_type": "dapo", "rollout_is_max": 2}),
    "sequence_truncate": ("grpo", trl_grpo, 1e-12, OLD + ",behaviour", {
        "loss_type": "grpo", "rollout_is": "sequence_truncate", "rollout_is_max": 1.5, "rollout_is_min": 0.5}),
    "token_mask": ("grpo", trl_grpo, 1e-12, OLD + ",behaviour", {
        "rollout_is": "token_mask", "rollout_is_max": 1.5, "rollout_is_min": 0.6, "beta": 0.04}),
    "token_truncate": ("grpo", trl_grpo, 1e-12, OLD + ",behaviour", {
        "rollout_is": "token_truncate", "rollout_is_max": 1.25, "importance_sampling_level": "sequence"}),
    "verl_dual_clip": ("grpo", verl("compute_policy_loss_vanilla"), 1e-12, OLD, {"delta": 1.25}),
    "verl_scored": ("grpo", verl("compute_policy_loss_vanilla"), 1e-7, OLD, {"loss_type": "grpo", "count_masked": False}),
    "verl_gspo": ("grpo", verl("compute_policy_loss_gspo"), 1e-7, OLD, {
        "loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.1,
        "count_masked": False}),
    "verl_cispo": ("grpo", verl("compute_policy_loss_cispo"), 1e-12, OLD, {
        "loss_type": "cispo", "cispo_min": 0.8, "epsilon_high": 1.2}),
    "verl_sapo": ("grpo", verl("compute_policy_loss_sapo"), 1e-7, OLD, {
        "loss_type": "sapo", "aggregation": "grpo", "count_masked": False}),
    "verl_norm": ("grpo", verl("compute_policy_loss_vanilla"), 1e-12, OLD, {
        "loss_type": "dr_grpo", "count_masked": False, "kl_estimator": "k1", "beta": 0.1}),
    "verl_k2": ("grpo", verl("compute_policy_loss_vanilla"), 1e-12, OLD, {"kl_estimator": "k2", "beta": 0.1}),
    "verl_k3_plus": ("grpo", verl("compute_policy_loss_vanilla"), 1e-12, OLD, {"kl_estimator": "k3+", "beta": 0.1}),
    "rloo": ("rloo", trl_rloo, 1e-12, OLD, {}),
    "rloo_wide": ("rloo", trl_rloo, 1e-12, OLD, {"epsilon": 0.3, "epsilon_high": 0.5}),
    "reinforce": ("reinforce", verl("compute_policy_loss_gpg"), 1e-12, "none", {}),
    "reinforce_kl": ("reinforce", verl("compute_policy_loss_gpg"), 1e-12, OLD + ",behaviour", {
        "aggregation": "luspo", "count_masked": False, "beta": 0.1, "kl_estimator": "k2"}),
    "reinforce_sum": ("reinforce", reinforce_sum, 1e-12, "none", {"aggregation": "luspo"}),
    "ppo": ("ppo", torchtune_ppo, 1e-12, VALUES, {}),
    "ppo_tight": ("ppo", torchtune_ppo, 1e-12, VALUES, {"cliprange": 0.05, "cliprange_value": 0.1, "vf_coef": 0.5}),
    "ppo_verl": ("ppo", verl("compute_policy_loss_vanilla"), 1e-12, VALUES, {
        "cliprange": 0.1, "cliprange_value": 0.3, "vf_coef": 0.5, "delta": 1.2}),
}


def numbers_of(oracle, inputs, config):
    numbers = Sequence(2026)
    batches = [tensors(batch, numbers) for batch in BATCHES]
    window = Window(batches)
    for batch, data in zip(BATCHES, batches):
        leaves = [data[name].requires_grad_() for name in ("logp", "entropy", "value")]
        loss, metrics = oracle(config, data, window, inputs.split(","))
        loss.backward()
        yield [loss.item()]
        yield [x for key, value in metrics.items() for x in (key, float(value))]
        for leaf in leaves:
            yield [0.0 if leaf.grad is None else leaf.grad[s, t].item()
                   for s, (_, completion) in enumerate(batch) for t in range(completion)]


def main():
    peers = ", ".join(f"{name} {peer_losses.version(name)}" for name in ("verl", "torchtune"))
    lines = ["# SPDX-License-Identifier: Apache-2.0",
             f"# Made by tests/peers/make_policy_goldens.py with TRL {trl.__version__}, {peers}, torch "
             f"{torch.__version__.split('+')[0]}."]
    for name, (plugin, oracle, tolerance, inputs, config) in CASES.items():
        lines.append(f"case {name} {plugin} {tolerance} {inputs} {json.dumps(config)}")
        lines += [" ".join(x if isinstance(x, str) else repr(float(x)) for x in row)
                  for row in numbers_of(oracle, inputs, config)]
    (GOLDEN / "plugin_policy.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
