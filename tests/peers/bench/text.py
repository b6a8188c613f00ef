"""Tokenizing 10 MB beside HF tokenizers; from process start to the first token beside llama.cpp.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import subprocess
import tempfile
import time

import oracle
import tokenizers
from bench import models, pairs
from bench.ours import Ours

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


def llama_program():
    """The peer's program, compiled anew when its source or the peer's headers are newer."""
    import llama_cpp
    source = pathlib.Path(__file__).with_name("llama_first_token.c")
    site = pathlib.Path(llama_cpp.__file__).parents[1]
    program, header = models.cache() / "llama_first_token", site / "include" / "llama.h"
    newest = max(source.stat().st_mtime, header.stat().st_ctime)
    if not program.exists() or program.stat().st_mtime < newest:
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", source, "-o", program, f"-I{site / 'include'}",
                        f"-L{site / 'lib'}", f"-Wl,-rpath,{site / 'lib'}", "-lllama", "-lggml",
                        "-lggml-base"], check=True)
    return program


def until_first_byte(command, environment):
    """Seconds from spawning a program to its first byte on stdout; and all it wrote (stdout, stderr)."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment) as process:
        first = os.read(process.stdout.fileno(), 1)
        seconds = time.perf_counter() - begin
        out, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{command[0]}: {err.decode()}")
    return seconds, (first + out).decode(), err.decode()


def first_token(retort, turns=5):
    """Seconds of two whole processes, from spawn to the first byte; the file is in the page cache."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    ours = [retort, "generate", models.smollm2(), "--chat", "--prompt", PROMPT, "--max-tokens", "1",
            "--temperature", "0", "--threads", "2", "--quiet"]
    sample = json.loads(until_first_byte(ours, environment)[1])
    peer = [llama_program(), models.smollm2(), "2", sample["prompt"]]
    _, text, count = until_first_byte(peer, environment)
    assert (text, int(count)) == (sample["completion"], len(sample["prompt_ids"])), (text, count)
    result = pairs.paired("process start to first token, SmolLM2 Q4_1", "s", "llama.cpp", 1.0,
                          lambda: until_first_byte(peer, environment)[0],
                          lambda: until_first_byte(ours, environment)[0], turns)
    result.lower_is_better = True
    return result
