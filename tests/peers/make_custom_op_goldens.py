#!/usr/bin/env python3
"""Reference numbers for custom ops: the xielu op from transformers' XIELUActivation with autograd, and
the model of examples/custom_op_family written plainly in torch, in f64.

Usage: make_custom_op_goldens.py
Writes tests/golden/plugin_xielu.txt, tests/golden/hybrid.golden (logits of every row, and the gradients
of a cross-entropy) and the random model in tests/fixtures/hybrid.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers.activations import XIELUActivation

TESTS = pathlib.Path(__file__).parents[1]
MODEL = TESTS / "fixtures" / "hybrid"
CONFIG = {
    "architectures": ["HybridExampleForCausalLM"], "model_type": "hybrid_example", "vocab_size": 48,
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "conv_L_cache": 3, "conv_bias": True,
    "layer_types": ["conv", "full_attention", "conv", "full_attention"], "torch_dtype": "float32",
}
IDS = [(7 * i * i + 3 * i + 5) % 48 for i in range(19)]


def header(what):
    return f"# SPDX-License-Identifier: Apache-2.0\n# {what}; made by tests/peers/make_custom_op_goldens.py with torch " \
           f"{torch.__version__.split('+')[0]}.\n"


def xielu(alpha_p, alpha_n, x, beta=0.5):
    act = XIELUActivation(beta=beta, dtype=torch.float64)
    act.alpha_p, act.alpha_n = alpha_p, alpha_n
    return act._xielu_python(x)


def xielu_lines():
    x = torch.tensor([[-6.5, -2.0, -0.75, -1e-3], [0.0, 1e-3, 0.5, 3.25], [-0.125, 2.0, -1.5, 0.25]],
                     dtype=torch.float64, requires_grad=True)
    d_y = torch.tensor([[1.0, -0.5, 0.25, 2.0], [0.75, -1.0, 0.5, 1.5], [-2.0, 0.125, 1.0, -0.25]], dtype=torch.float64)
    for raw_p, raw_n, beta in [(0.2, -1.05, 0.5), (-1.5, 2.0, 0.25)]:
        p = torch.nn.Parameter(torch.tensor([raw_p], dtype=torch.float64))
        n = torch.nn.Parameter(torch.tensor([raw_n], dtype=torch.float64))
        x.grad = None
        y = xielu(p, n, x, beta)
        (y * d_y).sum().backward()
        yield f"case {raw_p} {raw_n} {beta} {p.grad.item()!r} {n.grad.item()!r}"
        for values in (x.detach(), d_y, y.detach(), x.grad):
            yield " ".join(repr(v) for v in values.flatten().tolist())


def random_weights():
    torch.manual_seed(4)
    d, f, v, k = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"], CONFIG["conv_L_cache"]
    h = d // CONFIG["num_attention_heads"]
    normal = lambda *shape: torch.randn(*shape) * 0.4  # large: the next token must depend on those before
    w = {"model.embed_tokens.weight": normal(v, d), "model.embedding_norm.weight": 1 + normal(d) / 4}
    for i, kind in enumerate(CONFIG["layer_types"]):
        at = f"model.layers.{i}."
        w[at + "operator_norm.weight"] = 1 + normal(d) / 4
        w[at + "ffn_norm.weight"] = 1 + normal(d) / 4
        w[at + "mlp.up_proj.weight"], w[at + "mlp.down_proj.weight"] = normal(f, d), normal(d, f)
        w[at + "mlp.act_fn.alpha_p"], w[at + "mlp.act_fn.alpha_n"] = normal(1), normal(1)
        if kind == "conv":
            w[at + "conv.in_proj.weight"], w[at + "conv.out_proj.weight"] = normal(3 * d, d), normal(d, d)
            w[at + "conv.conv.weight"], w[at + "conv.conv.bias"] = normal(d, 1, k), normal(d)
        else:
            w[at + "self_attn.q_proj.weight"], w[at + "self_attn.out_proj.weight"] = normal(d, d), normal(d, d)
            for name in "kv":
                w[at + f"self_attn.{name}_proj.weight"] = normal(CONFIG["num_key_value_heads"] * h, d)
    return w


def norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]) * weight


def rotate(x):
    """x [heads, T, H]: pairs (j, j + H/2)."""
    half = x.shape[-1] // 2
    frequency = CONFIG["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequency
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def convolution(x, w, at):
    b, c, inner = (x @ w[at + "conv.in_proj.weight"].T).chunk(3, -1)
    k = CONFIG["conv_L_cache"]
    y = F.conv1d((b * inner).T[None], w[at + "conv.conv.weight"], w[at + "conv.conv.bias"], padding=k - 1,
                 groups=x.shape[1])[0, :, :x.shape[0]].T
    return (c * y) @ w[at + "conv.out_proj.weight"].T


def attention(x, w, at):
    heads = {}
    for name, n in [("q", CONFIG["num_attention_heads"]), ("k", CONFIG["num_key_value_heads"]), ("v", CONFIG["num_key_value_heads"])]:
        heads[name] = (x @ w[at + f"self_attn.{name}_proj.weight"].T).view(x.shape[0], n, -1).transpose(0, 1)
    out = F.scaled_dot_product_attention(rotate(heads["q"])[None], rotate(heads["k"])[None], heads["v"][None],
                                         is_causal=True, enable_gqa=True)[0]
    return out.transpose(0, 1).reshape(x.shape[0], -1) @ w[at + "self_attn.out_proj.weight"].T


def logits(w, ids):
    x = w["model.embed_tokens.weight"][torch.tensor(ids)]
    for i, kind in enumerate(CONFIG["layer_types"]):
        at = f"model.layers.{i}."
        y = norm(x, w[at + "operator_norm.weight"])
        x = x + (convolution if kind == "conv" else attention)(y, w, at)
        y = norm(x, w[at + "ffn_norm.weight"]) @ w[at + "mlp.up_proj.weight"].T
        x = x + xielu(w[at + "mlp.act_fn.alpha_p"], w[at + "mlp.act_fn.alpha_n"], y) @ w[at + "mlp.down_proj.weight"].T
    return norm(x, w["model.embedding_norm.weight"]) @ w["model.embed_tokens.weight"].T


def hybrid_lines(weights):
    w = {name: torch.nn.Parameter(t.double()) for name, t in weights.items()}
    z = logits(w, IDS)
    F.cross_entropy(z[:-1], torch.tensor(IDS[1:])).backward()
    yield "# ids"
    yield from (str(i) for i in IDS)
    yield "# logits"
    yield from (repr(v) for v in z.detach().flatten().tolist())
    for name in sorted(w):
        yield f"# gradient {name}"
        yield from (repr(v) for v in w[name].grad.flatten().tolist()[:40])


def main():
    golden = TESTS / "golden"
    (golden / "plugin_xielu.txt").write_text(header("transformers' XIELUActivation") + "\n".join(xielu_lines()) + "\n")
    weights = random_weights()
    MODEL.mkdir(exist_ok=True)
    (MODEL / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file(weights, MODEL / "model.safetensors", metadata={"format": "pt"})
    (golden / "hybrid.golden").write_text("\n".join(hybrid_lines(weights)) + "\n")


if __name__ == "__main__":
    main()
