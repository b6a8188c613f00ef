#!/usr/bin/env python3
"""Reference numbers for the kd loss: divergences of TRL (GKDTrainer.generalized_jsd_loss, the tail of
ServerDistillationTrainer), Liger and torchtune, and plain torch in f64, with autograd's gradients.

Usage: make_kd_goldens.py       writes tests/golden/plugin_kd.txt
Inputs come from the generator of make_plugin_goldens.py, the same in the C++ test: only results are
stored. Per case `case NAME ROWS VOCAB K TOLERANCE CONFIG` (K 0: the teacher's whole rows; TOLERANCE: of the
oracle itself, which may work in f32), then per row the loss, the teacher's entropy, whether both prefer
the same token, and the gradient.
SPDX-License-Identifier: Apache-2.0
"""
import json

import peer_losses
import torch
import torch.nn.functional as F
import trl
from make_plugin_goldens import GOLDEN, Sequence
from trl.experimental.gkd import GKDTrainer
from trl.experimental.server_distillation import server_distillation_trainer as server

WEIGHTS = [1.0, 0.5, 0.0, -0.25]
BETAS = {"forward_kl": 0, "reverse_kl": 1}


def beta_of(config):
    return BETAS.get(config.get("divergence", "forward_kl"), config.get("jsd_beta", 0.5))


def mix(config, divergence, student, labels):
    temperature, alpha = config.get("temperature", 3), config.get("alpha", 1)
    scale = temperature**2 if config.get("t_squared", True) else 1
    return alpha * scale * divergence + (1 - alpha) * F.cross_entropy(student, labels, reduction="none")


def trl_gkd(config, student, teacher, labels):
    row = [GKDTrainer.generalized_jsd_loss(s, t, beta=beta_of(config), temperature=config.get("temperature", 3),
                                           reduction="sum") for s, t in zip(student, teacher)]
    return mix(config, torch.stack(row), student, labels)


def liger(config, student, teacher, labels):
    """Heads that are identities: hidden states are logits. Row by row, since it gives a sum."""
    module = peer_losses.load("liger_kernel.chunked_loss.jsd_loss")
    eye = torch.eye(student.shape[1], dtype=torch.float64)
    loss = module.LigerFusedLinearJSDLoss(weight_hard_loss=1 - config["alpha"], weight_soft_loss=config["alpha"],
                                          beta=config["jsd_beta"], temperature=config["temperature"], compiled=False)
    return torch.stack([loss(s[None], eye, t[None], eye, y[None]) for s, t, y in zip(student, teacher, labels)])


def torchtune(config, student, teacher, labels):
    module = peer_losses.load("torchtune.modules.loss.kd_losses")
    loss = module.ReverseKLLoss() if config["divergence"] == "reverse_kl" else module.ForwardKLLoss()
    return torch.stack([loss(s[None], t[None], y[None]) for s, t, y in zip(student, teacher, labels)])


def torch_f64(config, student, teacher, labels):
    temperature = config.get("temperature", 3)
    q, p = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    if config.get("divergence") == "total_variation":
        divergence = (q.exp() - p.exp()).abs().sum(-1) / 2
    elif config.get("divergence") == "reverse_kl":
        divergence = F.kl_div(p, q, reduction="none", log_target=True).sum(-1)
    else:
        divergence = F.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    return mix(config, divergence, student, labels)


def top_k(config, student, ids, log_p, labels):
    """The teacher's K entries in logarithms at T; tails as TRL's teacher server makes them."""
    q = F.log_softmax(student / config.get("temperature", 3), -1).gather(-1, ids)
    tail = config.get("teacher_tail", "bucket")
    mask = torch.ones_like(q, dtype=torch.bool)
    p = log_p
    if tail == "bucket":
        (q, _), (p, mask) = server._add_tail_bucket(q, mask), server._add_tail_bucket(p, mask)
    elif tail == "renormalize":
        q, p = q - q.logsumexp(-1, keepdim=True), p - p.logsumexp(-1, keepdim=True)
    if config.get("divergence") == "total_variation":
        divergence = (q.exp() - p.exp()).abs() / 2
    else:
        divergence = server._jsd_divergence(q, p, beta_of(config), mask)
    entropy = -(p.exp() * p).sum(-1)
    return mix(config, divergence.sum(-1), student, labels), entropy


# name: (oracle, its tolerance, rows, vocabulary, K, config)
CASES = {
    "forward": (trl_gkd, 1e-12, 4, 19, 0, {"temperature": 1}),
    "reverse": (trl_gkd, 1e-12, 4, 19, 0, {"divergence": "reverse_kl", "temperature": 2}),
    "jsd": (trl_gkd, 1e-12, 4, 37, 0, {"divergence": "jsd", "temperature": 0.9, "t_squared": False}),
    "jsd_low": (trl_gkd, 1e-12, 4, 19, 0, {"divergence": "jsd", "jsd_beta": 0.1, "temperature": 1}),
    "jsd_high": (trl_gkd, 1e-12, 4, 19, 0, {"divergence": "jsd", "jsd_beta": 0.9, "temperature": 2}),
    "jsd_start": (trl_gkd, 1e-12, 4, 19, 0, {"divergence": "jsd", "jsd_beta": 0, "temperature": 2}),
    "jsd_end": (trl_gkd, 1e-12, 4, 19, 0, {"divergence": "jsd", "jsd_beta": 1, "temperature": 2}),
    "hinton": (torch_f64, 1e-12, 4, 37, 0, {"alpha": 0.7, "temperature": 3}),
    "reverse_hard": (torch_f64, 1e-12, 4, 19, 0, {"divergence": "reverse_kl", "alpha": 0.5, "temperature": 1}),
    "variation": (torch_f64, 1e-12, 4, 37, 0, {"divergence": "total_variation", "temperature": 2}),
    "liger": (liger, 1e-6, 4, 37, 0, {"divergence": "jsd", "jsd_beta": 0.3, "alpha": 0.4, "temperature": 1.5,
                                       "t_squared": False}),
    "torchtune_forward": (torchtune, 2e-6, 4, 37, 0, {"divergence": "forward_kl", "temperature": 1,
                                                       "teacher_entropy": True}),
    "torchtune_reverse": (torchtune, 2e-6, 4, 37, 0, {"divergence": "reverse_kl", "temperature": 1}),
    "bucket": (top_k, 1e-7, 4, 19, 4, {"temperature": 1}),
    "bucket_hard": (top_k, 1e-7, 4, 37, 4, {"temperature": 2, "alpha": 0.6}),
    "bucket_reverse": (top_k, 1e-7, 4, 19, 4, {"divergence": "reverse_kl", "temperature": 1.5}),
    "bucket_jsd": (top_k, 1e-7, 4, 19, 4, {"divergence": "jsd", "jsd_beta": 0.3, "temperature": 1}),
    "bucket_variation": (top_k, 1e-7, 4, 19, 4, {"divergence": "total_variation", "temperature": 1}),
    "renormalize": (top_k, 1e-12, 4, 19, 4, {"teacher_tail": "renormalize", "temperature": 2}),
    "renormalize_jsd": (top_k, 1e-12, 4, 19, 4, {"teacher_tail": "renormalize", "divergence": "jsd", "alpha": 0.25}),
    "drop": (top_k, 1e-12, 4, 19, 4, {"teacher_tail": "drop", "temperature": 1}),
    "drop_reverse": (top_k, 1e-12, 4, 19, 4, {"teacher_tail": "drop", "divergence": "reverse_kl", "alpha": 0.5}),
    "drop_jsd": (top_k, 1e-12, 4, 19, 4, {"teacher_tail": "drop", "divergence": "jsd", "temperature": 1}),
}


def cached_teacher(rows, vocab, k, numbers):
    """Distinct ids, not in order, and masses that leave some for the tail."""
    ids = torch.tensor([[(r + 1 + 3 * j) % vocab for j in range(k)] for r in range(rows)])
    log_p = torch.tensor([[-2 - abs(numbers.next()) / 4 for _ in range(k)] for _ in range(rows)], dtype=torch.float64)
    return ids, log_p


def case_lines(name, oracle, tolerance, rows, vocab, k, config):
    numbers = Sequence(rows * 1000 + vocab)
    student = numbers.tensor(rows, vocab).requires_grad_()
    labels = torch.tensor([(7 * r + 3) % vocab for r in range(rows)])
    if k > 0:
        ids, log_p = cached_teacher(rows, vocab, k, numbers)
        loss, entropy = oracle(config, student, ids, log_p, labels)
        best = ids.gather(-1, log_p.argmax(-1, keepdim=True)).squeeze(-1)
    else:
        teacher = numbers.tensor(rows, vocab)
        loss = oracle(config, student, teacher, labels)
        p = F.log_softmax(teacher / config.get("temperature", 3), -1)
        entropy, best = -(p.exp() * p).sum(-1), teacher.argmax(-1)
    (loss * torch.tensor(WEIGHTS, dtype=torch.float64)).sum().backward()
    yield f"case {name} {rows} {vocab} {k} {tolerance} {json.dumps(config)}"
    for r in range(rows):
        agrees = float(student[r].argmax() == best[r])
        row = [loss[r].item(), entropy[r].item(), agrees, *student.grad[r].tolist()]
        yield " ".join(repr(float(x)) for x in row)


def main():
    peers = ", ".join(f"{name} {peer_losses.version(name)}" for name in ("liger_kernel", "torchtune"))
    lines = ["# SPDX-License-Identifier: Apache-2.0",
             f"# Made by tests/peers/make_kd_goldens.py with TRL {trl.__version__}, {peers}, torch "
             f"{torch.__version__.split('+')[0]}."]
    lines += [line for name, case in CASES.items() for line in case_lines(name, *case)]
    (GOLDEN / "plugin_kd.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
