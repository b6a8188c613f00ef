"""Tokenizing 10 MB beside HF tokenizers; from process start to the first token beside llama.cpp.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import oracle  # noqa: E402
import tokenizers  # noqa: E402
from bench import models, pairs  # noqa: E402
from bench.ours import Ours  # noqa: E402

MEGABYTES = 10


def lines():
    """Different text in every line: GSM8K, shuffled by words so that no line comes twice."""
    records = oracle.read_jsonl(oracle.FIXTURES / "gsm8k" / "train_small.jsonl")
    words = " ".join((r["question"] + " " + r["answer"]).replace("\n", " ") for r in records).split(" ")
    made, size, i = [], 0, 0
    while size < MEGABYTES << 20:
        step, begin = 1 + 2 * (i % 499), (i * 7919) % len(words)
        line = " ".join(words[(begin + k * step) % len(words)] for k in range(120))
        made.append(line)
        size += len(line.encode()) + 1
        i += 1
    return made


def encode(retort, driver, turns=5):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder = models.smollm2_folder(retort)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = lines()
    ours = Ours(driver, 1)
    ours.open(folder, "auto")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(text) + "\n")
        file.flush()
        size = pathlib.Path(file.name).stat().st_size / 2**20
        count = sum(len(tokenizer.encode(line, add_special_tokens=False).ids)
                    for line in text)
        assert ours.ask("encode", path=file.name)["tokens"] == count

        def theirs():
            begin = time.perf_counter()
            for line in text:
                tokenizer.encode(line, add_special_tokens=False)
            return size / (time.perf_counter() - begin)

        def mine():
            return size / ours.ask("encode", path=file.name)["seconds"]
        result = pairs.paired("encode 10 MB, SmolLM2, one thread", "MB/s", "HF tokenizers", 4.0,
                              theirs, mine, turns)
    ours.close()
    return result


PROMPT = "What is one and one?"


def first_token(retort, turns=5):
    """Seconds; llama.cpp's count from its first call on: its exec and loading are left out."""
    def theirs():
        return float(subprocess.run([sys.executable, __file__, str(models.smollm2())], check=True,
                                    capture_output=True, text=True).stdout)

    def mine():
        begin = time.perf_counter()
        subprocess.run([retort, "generate", models.smollm2(), "--chat", "--prompt", PROMPT,
                        "--max-tokens", "1", "--temperature", "0", "--quiet"], check=True, capture_output=True)
        return time.perf_counter() - begin
    result = pairs.paired("process start to first token, SmolLM2 Q4_1", "s", "llama.cpp", 1.0, theirs,
                          mine, turns)
    result.lower_is_better = True
    return result


if __name__ == "__main__":
    import llama_cpp as ll
    import numpy  # noqa: F401 (llama.arg_max's, before the clock starts)

    from bench.llama import Llama
    begin = time.perf_counter()
    model = Llama(sys.argv[1], 2)
    vocabulary = ll.llama_model_get_vocab(model.model)
    text = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n".encode()
    ids = (ll.llama_token * 256)()
    n = ll.llama_tokenize(vocabulary, text, len(text), ids, 256, True, True)
    model.generate(list(ids[:n]), 1)
    print(time.perf_counter() - begin)
