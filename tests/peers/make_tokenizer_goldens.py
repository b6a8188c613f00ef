#!/usr/bin/env python3
# Trains small tokenizers, one per kind of tokenizer.json that retort reads, and records the ids
# and texts that HF tokenizers gives for them.
# SPDX-License-Identifier: Apache-2.0
"""make_tokenizer_goldens.py OUTDIR [KIND...]"""
import collections
import io
import json
import pathlib
import sys
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors, trainers
from transformers.convert_slow_tokenizer import SentencePieceExtractor

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from tokenizer_texts import TEXTS, random_texts  # noqa: E402

GPT2 = None  # ByteLevel's own
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
            "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
# Not among retort's scanners: goes through PCRE2.
OTHER = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
BYTES = dict(initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False)


def split(pattern, behavior="isolated", invert=False):
    return pre.Split(Regex(pattern), behavior, invert)


def byte_level(*patterns, use_regex=False, space=False):
    level = pre.ByteLevel(add_prefix_space=space, use_regex=use_regex)
    return pre.Sequence([split(p) for p in patterns] + [level]) if patterns else level


def special(*names, **flags):
    return [AddedToken(n, special=True, normalized=False, **flags) for n in names]


def words_of(tokenizer, text):
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    if tokenizer.pre_tokenizer is None:
        return [text]
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def train(tokenizer, size, limit_alphabet=None, **options):
    corpus = [t for t in TEXTS if t] * 2 + random_texts(60, 7)
    if limit_alphabet is not None:  # the trainer's own choice among equals differs from run to run
        counts = collections.Counter()
        for text in corpus:
            counts.update("".join(words_of(tokenizer, text)))
        kept = sorted(counts, key=lambda c: (-counts[c], c))[:limit_alphabet]
        options |= dict(limit_alphabet=limit_alphabet, initial_alphabet=kept)
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, **options))


def gpt2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = byte_level(use_regex=True)
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.decoder = decoders.ByteLevel()
    train(t, 700, special_tokens=special("<|endoftext|>"), **BYTES)
    return t


def smollm():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True),
                                    byte_level(use_regex=True)])
    t.decoder = decoders.ByteLevel()
    train(t, 600, special_tokens=special("<|endoftext|>", "<|im_start|>", "<|im_end|>"), **BYTES)
    return t


def qwen2():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = byte_level(QWEN2)
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.decoder = decoders.ByteLevel()
    train(t, 700, **BYTES)
    t.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    t.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return t


def llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = byte_level(LLAMA3)
    t.decoder = decoders.ByteLevel()
    train(t, 700, special_tokens=special("<|begin_of_text|>", "<|eot_id|>"), **BYTES)
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair=None,
                                      special_tokens=[("<|begin_of_text|>", 0)])])
    # Whole words that no merge makes.
    data = json.loads(t.to_str())
    table = byte_chars()
    for word in ["Ġnaïve", "pneumonoultramicroscopicsilicovolcanoconiosis", "Ġfour", "세계"]:
        key = "".join(table[b] for b in word.replace("Ġ", " ").encode())
        data["model"]["vocab"].setdefault(key, len(data["model"]["vocab"]))
    return Tokenizer.from_str(json.dumps(data))


def byte_chars():
    keep = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    table, extra = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in keep else chr(0x100 + extra)
        extra += b not in keep
    return table


def deepseek():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([])
    t.pre_tokenizer = byte_level(*DEEPSEEK)
    t.decoder = decoders.ByteLevel()
    train(t, 700, special_tokens=special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), **BYTES)
    t.add_tokens([AddedToken("<｜User｜>", normalized=True), AddedToken("<｜Assistant｜>",
                                                                      normalized=True)])
    return t


def pcre():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = byte_level(OTHER, space=True)
    t.decoder = decoders.ByteLevel()
    train(t, 600, special_tokens=special("<s>", lstrip=True), **BYTES)
    t.add_tokens([AddedToken("hello", single_word=True), AddedToken("<pad>", rstrip=True),
                  AddedToken("ﬁ!", normalized=True)])
    return t


def llama2():
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                   decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    names = special("<unk>", "<s>", "</s>")
    train(t, 620, special_tokens=names + [AddedToken(f"<0x{b:02X}>") for b in range(256)],
          limit_alphabet=90, show_progress=False)
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=None, special_tokens=[("<s>", 1), ("</s>", 2)])
    data = json.loads(t.to_str())  # byte tokens are of the model, not added
    data["added_tokens"] = [a for a in data["added_tokens"] if not a["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(data))


def metaspace():
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.pre_tokenizer = pre.Metaspace(prepend_scheme="first")
    t.decoder = decoders.Metaspace(prepend_scheme="first")
    train(t, 500, special_tokens=special("<unk>", "<s>"), limit_alphabet=80, show_progress=False)
    t.add_tokens([AddedToken("<pad>", lstrip=True, rstrip=True, normalized=False)])
    return t


def behaviors():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    t.pre_tokenizer = pre.Sequence([
        pre.Split("th", "merged_with_next"), pre.Split("=", "contiguous"),
        pre.Split(Regex(r"\s+"), "removed"), pre.Punctuation("merged_with_previous"),
        pre.Digits(individual_digits=False), split(r"[A-Z][a-z]*", "isolated", True)])
    train(t, 400, special_tokens=special("<unk>"), limit_alphabet=120, show_progress=False)
    return t


def words():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    t.pre_tokenizer = pre.Whitespace()
    train(t, 300, special_tokens=special("<unk>"), limit_alphabet=70, show_progress=False)
    return t


def sentencepiece_model():
    """A BPE model that sentencepiece trained, with the settings of Llama 2's."""
    problems = pathlib.Path(__file__).parents[1] / "fixtures" / "gsm8k" / "train_small.jsonl"
    records = [json.loads(line) for line in problems.read_text(encoding="utf-8").splitlines()]
    corpus = [t for t in TEXTS if t] + [r["question"] + "\n" + r["answer"] for r in records]
    lines = [line for text in corpus for line in text.split("\n") if line and "\0" not in line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=500,
        byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
        user_defined_symbols=["<think>"], num_threads=1, minloglevel=2)
    return model.getvalue()


def pieces():
    """That model as transformers converts it: merges from the order of its pieces."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(sentencepiece_model())
        file.flush()
        found = SentencePieceExtractor(file.name).extract(models.BPE)
    t = Tokenizer(models.BPE(found["vocab"], found["merges"], byte_fallback=True, fuse_unk=True,
                             unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                   decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens(special("<unk>", "<s>", "</s>"))
    t.add_tokens([AddedToken("<think>", normalized=False)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair=None,
                                                     special_tokens=[("<s>", 1)])
    return t


def write_pieces(out, texts):
    """pieces.spm.jsonl: each piece with its score and type (GGUF's numbers); then sentencepiece's
    own ids of the texts, null where those name added tokens, which it knows otherwise."""
    model = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
    with open(out / "pieces.spm.jsonl", "w", encoding="utf-8", newline="\n") as f:
        for i in range(model.get_piece_size()):
            kind = (2 if model.is_unknown(i) else 3 if model.is_control(i) else
                    6 if model.is_byte(i) else 4 if model.id_to_piece(i) == "<think>" else 1)
            f.write(json.dumps([model.id_to_piece(i), model.get_score(i), kind]) + "\n")
        for text in texts:
            known = any(name in text for name in ("<unk>", "<s>", "</s>", "<think>"))
            f.write(json.dumps(None if known else model.encode(text)) + "\n")


KINDS = [gpt2, smollm, qwen2, llama3, deepseek, pcre, llama2, metaspace, behaviors, words,
         pieces]


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    kinds = [k for k in KINDS if k.__name__ in sys.argv[2:]] or KINDS
    texts = TEXTS + random_texts(80, 3, ["<|im_end|>", "<think>", "<s>", "<pad>", "hello", "<unk>"])
    with open(out / "texts.jsonl", "w", encoding="utf-8", newline="\n") as f:
        for text in texts:
            f.write(json.dumps({"text": text}) + "\n")
    for kind in kinds:
        t = kind()
        data = json.loads(t.to_str())
        (out / f"{kind.__name__}.json").write_text(
            json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        with open(out / f"{kind.__name__}.ids.jsonl", "w", encoding="utf-8", newline="\n") as f:
            for text in texts:
                ids = t.encode(text).ids
                plain = t.encode(text, add_special_tokens=False).ids
                line = {"ids": ids}
                if plain != ids:
                    line["plain"] = plain
                for key, skip in (("decoded", False), ("skipped", True)):
                    got = t.decode(ids, skip_special_tokens=skip)
                    if got != text:
                        line[key] = got
                f.write(json.dumps(line, separators=(",", ":")) + "\n")
        print(kind.__name__, t.get_vocab_size())
    if pieces in kinds:
        write_pieces(out, texts)


if __name__ == "__main__":
    main()
