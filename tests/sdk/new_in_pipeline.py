#!/usr/bin/env python3
"""New plugins at work: one of each kind that a pipeline names, used in one run exactly as the README
of its project says, by the JSON that stands there.

Usage: new_in_pipeline.py PREFIX RETORT MODEL
PREFIX holds the installed SDK, MODEL is a small model to train.
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import re
import sys
import tempfile

from new_project import run

KINDS = ["source", "generator", "filter", "reward", "loss", "optimizer"]


def build(folder, prefix, retort, kind):
    """A project in C; gives its library and the JSON of its README."""
    name = f"my-{kind}"
    project = folder / name
    run(retort, "plugin", "new", kind, name, "--lang", "c", cwd=folder)
    run("cmake", "-G", "Ninja", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=project)
    run("cmake", "--build", "build", "-j", "2", cwd=project)
    text = re.search(r"```json\n(.*?)```", (project / "README.md").read_text(), re.S)[1]
    return project / "build" / f"lib{name}.so", json.loads("{" + text.replace("...\n", "") + "}")


def pipeline(libraries, use, model):
    stages = [
        *use["generator"]["stages"],
        {"name": "train", "kind": "sft", "model": "student", "data": "@ask", "chat": False, "max_steps": 2,
         "max_length": 128, "batch_tokens": 256, "logging_steps": 1, "loss": use["loss"]["loss"],
         "optimizer": use["optimizer"]["optimizer"], "learning_rate": use["optimizer"]["learning_rate"]},
        {"name": "pick", "kind": "filter", "data": "@ask",
         "filters": use["filter"]["filters"] + use["reward"]["filters"]},
    ]
    return {"retort": 1, "name": "new", "plugins": [str(p) for p in libraries.values()],
            "models": {"student": str(model)}, "data": {"questions": use["source"]["data"]["sums"]}, "stages": stages}


def main():
    prefix, retort, model = (pathlib.Path(a).absolute() for a in sys.argv[1:4])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        libraries, use = {}, {}
        for kind in KINDS:
            libraries[kind], use[kind] = build(folder, prefix, retort, kind)
            if use[kind]["plugins"] != [f"build/lib{libraries[kind].name[3:]}"]:
                sys.exit(f"the README of {kind} names the library {use[kind]['plugins']}")
        (folder / "pipeline.json").write_text(json.dumps(pipeline(libraries, use, model)))
        options = ["--set", "stages.ask.limit=20"]
        run(retort, "plan", "pipeline.json", *options, cwd=folder)
        print(run(retort, "run", "pipeline.json", *options, cwd=folder)[0])

        results = folder / "runs" / "new"
        samples = [json.loads(line) for line in (results / "ask" / "samples.jsonl").read_text().splitlines()]
        # The source's question, answered by the generator, twice each.
        if len(samples) != 40 or any(s["completion"] != "You said: " + s["prompt"] for s in samples):
            sys.exit(f"the samples are not what source and generator say: {samples[:2]}")
        metrics = [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]
        steps = [m for m in metrics if m.get("stage") == "train" and "loss" in m]
        if len(steps) != 2 or not all(0 < m["loss"] < 20 for m in steps):
            sys.exit(f"training says {metrics}")
        # No answer is behind the marker, so the reward gives 0 to each; the filter lets them pass.
        audit = [json.loads(line) for line in (results / "pick" / "audit.jsonl").read_text().splitlines()]
        if len(audit) != 40 or {a["plugin"] for a in audit} != {"reward_threshold"}:
            sys.exit(f"the audit says {audit[:2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
