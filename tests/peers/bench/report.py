"""docs/benchmarks.md: the table, and everything that says what it was measured on.

SPDX-License-Identifier: Apache-2.0
"""
import importlib.metadata
import json
import pathlib
import platform
import subprocess

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def line(pair):
    sign = "≤" if pair["lower_is_better"] else "≥"
    verdict = "yes" if pair["holds"] else "**no**"
    return (f"| {pair['work']} | {pair['peer']} | {number(pair['theirs'])} | {number(pair['ours'])} "
            f"| {pair['unit']} | **{pair['ratio']:.2f}** ({pair['low']:.2f} to {pair['high']:.2f}) "
            f"| {sign} {pair['bar']:g} | {verdict} |")


def processor():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    field = dict(part.split(":", 1) for part in text.split("\n\n")[0].splitlines() if ":" in part)
    field = {key.strip(): value.strip() for key, value in field.items()}
    wanted = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16")
    flags = [flag for flag in wanted if flag in field.get("flags", "").split()]
    return f"{field.get('model name', platform.processor())} ({' '.join(flags)})"


def versions():
    names = ("torch", "transformers", "peft", "tokenizers", "llama-cpp-python")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def commit_of(folder):
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                          cwd=folder).stdout.strip()


def measured(pairs, threads, turns):
    commits = sorted({pair.get("commit", "commits that were not recorded") for pair in pairs})
    head = ("| work | peer | theirs | ours | unit | ratio (quartiles) | bar | holds |\n"
            "|---|---|---|---|---|---|---|---|\n")
    return (f"{BEGIN}\nProcessor: {processor()}; {threads} threads; {turns} turns. {versions()}. "
            f"retort at {', '.join(commits)}.\n\n{head}" + "\n".join(line(pair) for pair in pairs) + f"\n{END}")


def write(page, results, threads, turns):
    """Puts the table between the page's marks."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    page.write_text(before + measured(results, threads, turns) + after, encoding="utf-8")


def load(path):
    return json.loads(path.read_text()) if path.exists() else {}
