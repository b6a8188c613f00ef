#!/usr/bin/env python3
"""A grpo stage of retort, step by step in TRL: the completions and rewards that retort recorded, the model
in transformers, the loss of GRPOTrainer, torch's AdamW. Loss and gradient norm of every step must agree.

TRL has no PPO any more: its policy and value loss, advantages (GAE, whitened) and rewards of tokens are
written out here as verl's core_algos has them.

Usage: check_policy_training.py RETORT [--steps 20]
Prints a table; exits 1 where a loss is more than 1e-3 (relative, floor 1e-2) off.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import collections
import json
import pathlib
import shutil
import subprocess
import tempfile
import types

import oracle
import safetensors.torch
import torch
from trl.trainer.grpo_trainer import GRPOTrainer

GROUP, PROMPTS, MAX_TOKENS, TEMPERATURE, RATE, ITERATIONS = 4, 4, 24, 0.9, 3e-4, 2
CASES = {
    "dapo": {},
    "grpo with KL": {"loss_type": "grpo", "beta": 0.05},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04},
    "dr_grpo, entropy bonus": {"loss_type": "dr_grpo", "entropy_coef": 0.01},
}


PPO = {"kl_coef": 0.05, "gamma": 0.99, "lambda": 0.95, "cliprange": 0.1, "vf_coef": 0.2, "cliprange_value": 0.1}


def ppo_stage():
    host = {key: PPO[key] for key in ("kl_coef", "gamma", "lambda")}
    loss = {key: PPO[key] for key in ("cliprange", "vf_coef", "cliprange_value")}
    return host | {"algorithm": "ppo", "loss": [{"plugin": "ppo", "config": loss | {"rollout_is": "none"}}]}


def grpo_stage(config):
    return {"loss": [{"plugin": "grpo", "config": config | {"rollout_is": "none"}}]}


def make_policy(folder):
    """The fixture with a value head: both sides start from the same one."""
    shutil.copytree(oracle.FIXTURES / "qwen2", folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    torch.manual_seed(1)
    weights["score.weight"] = torch.randn(1, weights["model.norm.weight"].numel()) * 0.1
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def run_retort(program, folder, model, stage, steps):
    pipeline = {
        "retort": 1, "name": "rl", "seed": 11, "output": str(folder / "run"),
        "models": {"m": str(model)},
        "data": {"q": {"path": str(oracle.FIXTURES / "gsm8k" / "train_small.jsonl"), "map": {"prompt": "question"}}},
        "stages": [{
            "name": "rl", "kind": "grpo", "model": "m", "data": "q", "num_generations": GROUP,
            "prompts_per_step": PROMPTS, "num_iterations": ITERATIONS, "rewards": ["number_match"],
            # What there is to learn: shorter answers.
            "overlong_buffer": MAX_TOKENS - 2, "mask_truncated_completions": False, "learning_rate": RATE,
            "max_steps": steps, "logging_steps": 1, "save_steps": 0, "micro_batch_tokens": 100000,
            "sampling": {"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS}} | stage]}
    path = folder / "pipeline.json"
    path.write_text(json.dumps(pipeline))
    subprocess.run([program, "run", path], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    rounds = collections.defaultdict(list)
    for line in (folder / "run" / "rl" / "samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        rounds[sample["step"]].append(sample)
    metrics = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [rounds[step] for step in sorted(rounds)], metrics


def token_values(model, samples):
    """Log-probabilities and entropies of the completions' tokens, padded [B,T]."""
    rows = []
    for sample in samples:
        ids = torch.tensor([sample["prompt_ids"] + sample["completion_ids"]])
        start = len(sample["prompt_ids"])
        logp = (model(ids).logits[0, start - 1:-1] / TEMPERATURE).log_softmax(-1)
        chosen = logp.gather(1, ids[0, start:, None])[:, 0]
        rows.append((chosen, -(logp.exp() * logp).sum(-1)))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad([r[0] for r in rows], batch_first=True), pad([r[1] for r in rows], batch_first=True)


def trainer(config, logp, entropy):
    """As much of a GRPOTrainer as its loss looks at."""
    epsilon = config.get("epsilon", 0.2)
    self = types.SimpleNamespace(
        aux_loss_enabled=False, off_policy_mask_threshold=None, use_adaptive_entropy=False, use_vllm=False,
        vllm_importance_sampling_correction=False, top_entropy_quantile=1.0,
        importance_sampling_level=config.get("importance_sampling_level", "token"), beta=config.get("beta", 0.0),
        loss_type=config.get("loss_type", "dapo"), epsilon_low=epsilon, epsilon_high=config.get("epsilon_high", epsilon),
        max_completion_length=MAX_TOKENS, current_gradient_accumulation_steps=1,
        accelerator=types.SimpleNamespace(num_processes=1, sync_gradients=True, gather=lambda x: x,
                                          gather_for_metrics=lambda x: x, reduce=lambda x, reduction: x),
        model=types.SimpleNamespace(training=True),
        args=types.SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1,
                                   sapo_temperature_pos=1.0, sapo_temperature_neg=1.05),
        entropy_coef=config.get("entropy_coef", 0.0), _entropy_bonus_enabled=config.get("entropy_coef", 0.0) != 0,
        _metrics={"train": collections.defaultdict(list)})
    self._get_per_token_logps_and_entropies = lambda *a, **k: (logp, entropy, None)
    return self


def replay(rounds, config, steps):
    """Yields (loss, gradient norm) of each step."""
    model, _ = oracle.open_model(oracle.FIXTURES / "qwen2")
    reference, _ = oracle.open_model(oracle.FIXTURES / "qwen2")
    decayed = [p for n, p in model.named_parameters() if not any(k in n for k in ("norm", "bias"))]
    rest = [p for n, p in model.named_parameters() if any(k in n for k in ("norm", "bias"))]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": rest}], lr=RATE, weight_decay=0)
    done = 0
    for samples in rounds:
        reward = torch.tensor([s["reward"] for s in samples], dtype=torch.float64).view(-1, GROUP)
        advantage = (reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + 1e-4)
        with torch.no_grad():
            old, ref = token_values(model, samples)[0], token_values(reference, samples)[0]
        lengths = torch.tensor([len(s["completion_ids"]) for s in samples])
        mask = (torch.arange(old.shape[1]) < lengths[:, None]).float()
        none = torch.zeros(len(samples), 0)
        for _ in range(min(ITERATIONS, steps - done)):
            logp, entropy = token_values(model, samples)
            self = trainer(config, logp, entropy)
            loss = GRPOTrainer._compute_loss(self, self.model, {
                "prompt_ids": none, "prompt_mask": none, "completion_ids": mask, "completion_mask": mask,
                "advantages": advantage.flatten().float(), "old_per_token_logps": old, "ref_per_token_logps": ref,
                "num_items_in_batch": mask.sum()})
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            done += 1
            yield loss.item(), norm.item()


def masked_mean(x, mask):
    return (x * mask).sum() / mask.sum()


def token_advantages(rewards, values, mask):
    """GAE over the completions' tokens: (advantages, whitened over all; returns)."""
    advantages = torch.zeros_like(values)
    next_value = next_advantage = torch.zeros(len(values))
    for t in reversed(range(values.shape[1])):
        there = mask[:, t]
        delta = rewards[:, t] + PPO["gamma"] * next_value - values[:, t]
        advantage = delta + PPO["gamma"] * PPO["lambda"] * next_advantage
        next_value = torch.where(there > 0, values[:, t], next_value)
        next_advantage = torch.where(there > 0, advantage, next_advantage)
        advantages[:, t] = advantage * there
    returns = advantages + values
    mean = masked_mean(advantages, mask)
    variance = masked_mean((advantages - mean) ** 2, mask) * mask.sum() / (mask.sum() - 1)
    return (advantages - mean) * (variance + 1e-8).rsqrt() * mask, returns


def ppo_values(model, head, samples):
    """Log-probabilities of the completions' tokens and the values before them, padded [B,T]."""
    logp, values = [], []
    for sample in samples:
        ids = torch.tensor([sample["prompt_ids"] + sample["completion_ids"]])
        start = len(sample["prompt_ids"])
        hidden = model.model(ids).last_hidden_state[0, start - 1:-1]
        rows = (model.lm_head(hidden) / TEMPERATURE).log_softmax(-1)
        logp.append(rows.gather(1, ids[0, start:, None])[:, 0])
        values.append(head(hidden)[:, 0])
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(logp, batch_first=True), pad(values, batch_first=True)


def ppo_loss(logp, values, old, advantage, returns, mask):
    ratio, low, high = (logp - old[0]).exp(), 1 - PPO["cliprange"], 1 + PPO["cliprange"]
    policy = masked_mean(torch.maximum(-advantage * ratio, -advantage * ratio.clamp(low, high)), mask)
    bounded = torch.clamp(values, old[1] - PPO["cliprange_value"], old[1] + PPO["cliprange_value"])
    value = 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (bounded - returns) ** 2), mask)
    return policy, value


def replay_ppo(folder, rounds, steps):
    """Yields (total, gradient norm, value loss, policy loss) of each step."""
    model, reference = oracle.open_model(folder)[0], oracle.open_model(folder)[0]
    weight = safetensors.torch.load_file(folder / "model.safetensors")["score.weight"]
    head = torch.nn.Linear(weight.shape[1], 1, bias=False)
    head.weight.data.copy_(weight)
    trained = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0)
    done = 0
    for samples in rounds:
        lengths = torch.tensor([len(s["completion_ids"]) for s in samples])
        with torch.no_grad():
            old, ref = ppo_values(model, head, samples), ppo_values(reference, head, samples)[0]
            mask = (torch.arange(ref.shape[1]) < lengths[:, None]).float()
            rewards = -PPO["kl_coef"] * (old[0] - ref) * mask
            rewards[torch.arange(len(samples)), lengths - 1] += torch.tensor([s["reward"] for s in samples])
            advantage, returns = token_advantages(rewards, old[1], mask)
        for _ in range(min(ITERATIONS, steps - done)):
            policy, value = ppo_loss(*ppo_values(model, head, samples), old, advantage, returns, mask)
            total = policy + PPO["vf_coef"] * value
            optimizer.zero_grad()
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            done += 1
            yield total.item(), norm.item(), value.item(), policy.item()


def check_ppo(program, steps):
    """Largest relative difference of total, gradient norm, value loss and policy loss."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        start = make_policy(folder / "policy")
        rounds, metrics = run_retort(program, folder, start, ppo_stage(), steps)
        worst = [0.0] * 4
        for line, theirs in zip(metrics, replay_ppo(start, rounds, steps), strict=True):
            value = line["ppo/value_loss"]
            ours = line["loss"], line["grad_norm"], value, line["loss"] - PPO["vf_coef"] * value
            worst = [max(w, abs(a - b) / max(abs(b), 1e-2)) for w, a, b in zip(worst, ours, theirs, strict=True)]
    print(f"| ppo | {len(metrics)} | {worst[0]:.1e} (value {worst[2]:.1e}, policy {worst[3]:.1e}) | {worst[1]:.1e} |")
    return max(worst[0], worst[2], worst[3]) <= 1e-3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("retort", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    failed = False
    print("| loss | steps | largest relative difference of losses | of gradient norms |\n|---|---|---|---|")
    for name, config in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            rounds, metrics = run_retort(args.retort.resolve(), pathlib.Path(folder), oracle.FIXTURES / "qwen2",
                                         grpo_stage(config), args.steps)
            worst_loss = worst_norm = 0
            for ours, (loss, norm) in zip(metrics, replay(rounds, config, args.steps), strict=True):
                worst_loss = max(worst_loss, abs(ours["loss"] - loss) / max(abs(loss), 1e-2))
                worst_norm = max(worst_norm, abs(ours["grad_norm"] - norm) / max(norm, 1e-2))
        print(f"| {name} | {len(metrics)} | {worst_loss:.1e} | {worst_norm:.1e} |", flush=True)
        failed |= worst_loss > 1e-3
    failed |= not check_ppo(args.retort.resolve(), args.steps)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
