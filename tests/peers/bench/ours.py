"""retort's side: tests/bench/peer_driver, a process that stays and does the engine's work.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import subprocess


class Ours:
    def __init__(self, driver, threads, **environment):
        self.process = subprocess.Popen(
            [driver, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"GOMP_SPINCOUNT": "1000", **os.environ, **environment})  # as bin/retort sets it

    def ask(self, op, **request):
        self.process.stdin.write(json.dumps({"op": op, **request}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"the driver ended during {op}"}
        if "error" in answer:
            raise SystemExit(f"retort, {op}: {answer['error']}")
        return answer

    def open(self, model, storage="f32", **options):
        return self.ask("open", model=str(model), storage=storage, **options)

    def train(self, batches, learning_rate=1e-4):
        """One step per batch of documents {ids, labels?}; {losses, grad_norms, seconds}."""
        return self.ask("train", batches=batches, learning_rate=learning_rate)

    def generate(self, prompts, max_tokens, n=1, max_batch=16):
        return self.ask("generate", prompts=prompts, max_tokens=max_tokens, n=n,
                        max_batch=max_batch)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def documents(rows):
    return [{"ids": row} for row in rows]
