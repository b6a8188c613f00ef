# Texts for tokenizer comparisons: written ones for each rule that tokenizers differ in, and random
# ones from characters at the borders of the rules.
# SPDX-License-Identifier: Apache-2.0
import random

TEXTS = [
    "",
    " ",
    "\n",
    "Hello world",
    "Hello, world! How's it going? I'll say we've, they're, I'd, you'd, it's, don't.",
    "HE'LL SAY WE'VE, IT'S, DON'T, I'M, I'D, THEY'RE",
    "'s't're've'm'll'd 'S'T \u2019s it\u017fs '\u017f 'ſ",
    "Natalia sold 48/2 = 24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72",
    "0 1 12 123 1234 12345 123456789 3.14159 1,000,000 1e-9 0x7fff ٣٤٥ ①② Ⅷ ½ ²³",
    "a1b22c333 4d 55e",
    "def f(x):\n    if x > 0:\n\treturn x ** 2  # square\n    return -x\n\n\nprint(f(3))\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i]; } // sum\r\n/* c */ #include <vector>\r\n",
    "{\"key\": [1, 2.5, null, true], \"s\": \"a\\n\\\"b\\\"\"}",
    "<div class=\"x\">text</div><br/><!-- c --> &amp; https://example.org/a?b=c&d=%20#e",
    "SELECT * FROM t WHERE a='x' AND b>=10;-- done",
    "\\frac{a}{b} + \\sqrt{x^2 + y^2} \\leq \\boxed{42} $$\\int_0^1 f(x)\\,dx$$",
    "안녕하세요, 세계! 오늘은 날씨가 참 좋네요. 3월 1일입니다.",
    "각각 (NFC) 각 (NFD) 한국어 한국어",
    "你好，世界！今天是2024年1月1日。机器学习和自然语言处理。龥龦",
    "日本語のテキスト、カタカナとひらがなゞ゠ー・ ﾊﾝｶｸ",
    "Привет, мир! Ёлка и ёж. Ünïcödé naïve café Straße ǅ",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם",
    "नमस्ते दुनिया क्षत्रिय สวัสดีชาวโลก வணக்கம்",
    "😀😃 👋🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇰🇷🇩🇪 ❤️ ☺ ✈️ 1️⃣",
    "e\u0301 a\u0308\u0323 o\u0323\u0308 \u0301start q\u0307\u0323 \u1e69 s\u0323\u0307 \u212b \u2126 \ufb01 \u00b5",
    "\u0344\u0340\u0341 \uf900\u2f800 \u1100\u1161\u11a8 \uac00\u11a8",
    "  two   three    four     five",
    "tab\ttab\t\ttab \t mix\t \n",
    "line\n\nline\n\n\nline\r\n\r\nline\r\rline \n \n  x",
    "trailing spaces   ",
    "   leading spaces",
    "\n\n\n",
    "   \n   \n",
    " \u00a0\u2003\u3000\u2028\u2029\u0085\u180e\u200b\ufeff x",
    "a\u00a0b\u2003c \u3000d\u3000\u3000e",
    "!!!???...---___***   ((([[[{{{",
    " ! \" # $ % & ' ( ) * + , - . / : ; < = > ? @ [ \\ ] ^ _ ` { | } ~",
    "hello...world!!!\n\nok?\n!\n",
    "'''quoted''' ''a'' \"b\" “c” ‘d’ «e»",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE x1_y2",
    "@user #tag $100 100% a&b a+b=c 50€ £5 ¥7 ₩1000 ±∞≠≤ ←→ ™©®",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "ababababababababababababababababababababababababababababababababababababab",
    "pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism",
    " " * 100 + "x" + " " * 33,
    "\n" * 50 + "x",
    "=" * 80 + "\n" + "-" * 41,
    "typed <|im_start|>user\nhi<|im_end|> <|endoftext|> <s> </s> <unk> <pad> <|eot_id|>",
    "<|im_start|><|im_end|><|im_start|>assistant\n<think>\n</think>",
    "<｜User｜>hi<｜Assistant｜>ok<｜end▁of▁sentence｜>",
    "<|im_start <|im_start| im_end|> <|",
    "\u2581 ▁under ▁▁bars _▁_",
    "Ġ Ċ Âł raw byte-map letters ĠĠ",
    "\x00\x01\x02 control \x1b[0m \x7f \u0080\u009f",
    "\ufffd \uffff \U0010ffff \U000e0001 private \ue000",
    "𝒜𝓑𝕮 𝟏𝟐𝟑 ﬀ ｆｕｌｌ ㌀ ㎏ 𐍈 𠀀",
]

PIECES = [
    "a", "b", "e", "s", "t", "th", "the", "ing", "S", "T", "Re", "don't", "I'LL", "0", "7", "12",
    "2024", " ", "  ", "   ", "\n", "\r\n", "\t", "\r", "'", "\"", ".", ",", "!", "?", "-", "_",
    "(", ")", "/", "\\", "#", "$", "+", "=", "<", ">", "|", "`", "~", "^", "@", "%", "&",
    "é", "e\u0301", "\u0301", "\u0323", "ſ", "ß", "Ж", "ı", "İ", "ǅ", "ʰ", "한", "국", "각", "\u1100",
    "\u1161", "\u11a8", "中", "龥", "龦", "々", "〇", "あ", "ア", "ー", "゛", "ﾊ", "م", "ש", "न", "्", "ส", "ั",
    "😀", "👋🏽", "\u200d", "\ufe0f", "🇰", "½", "²", "Ⅷ", "٣", "①", "\u00a0", "\u2003", "\u3000",
    "\u2028", "\u0085", "\u180e", "\u200b", "\u00ad", "€", "∑", "“", "…", "—", "·", "\x00", "\x1f",
    "\u2581", "Ġ", "\ue000", "\U00020000", "\U0010fffe", "<0x41>",
]


def random_texts(count, seed, extra=()):
    rng = random.Random(seed)
    pieces = PIECES + list(extra)
    return ["".join(rng.choice(pieces) for _ in range(rng.randint(1, 40))) for _ in range(count)]
