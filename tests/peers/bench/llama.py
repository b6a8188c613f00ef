"""llama.cpp's side, by its C interface in llama-cpp-python (a native build): no Python between two
tokens but the call itself.

SPDX-License-Identifier: Apache-2.0
"""
import ctypes
import time

import llama_cpp as ll
import numpy


class Llama:
    def __init__(self, path, threads, context=1024):
        ll.llama_backend_init()
        self.silence = ll.llama_log_callback(lambda level, text, data: None)
        ll.llama_log_set(self.silence, ctypes.c_void_p(0))
        parameters = ll.llama_model_default_params()
        self.model = ll.llama_model_load_from_file(str(path).encode(), parameters)
        options = ll.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = context, 512, 512
        options.n_threads = options.n_threads_batch = threads
        options.type_k = options.type_v = 0  # f32, as retort's
        self.context = ll.llama_init_from_model(self.model, options)
        self.vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))

    def forward(self, ids):
        array = (ll.llama_token * len(ids))(*ids)
        if ll.llama_decode(self.context, ll.llama_batch_get_one(array, len(ids))) != 0:
            raise SystemExit("llama.cpp: llama_decode failed")

    def arg_max(self):
        logits = ll.llama_get_logits_ith(self.context, -1)
        values = (ctypes.c_float * self.vocabulary).from_address(ctypes.addressof(logits.contents))
        return int(numpy.frombuffer(values, dtype=numpy.float32).argmax())

    def generate(self, prompt, max_tokens):
        """Greedy; seconds of prefill and of the passes after it."""
        ll.llama_memory_clear(ll.llama_get_memory(self.context), True)
        begin = time.perf_counter()
        self.forward(prompt)
        ids = [self.arg_max()]
        prefill = time.perf_counter() - begin
        begin = time.perf_counter()
        while len(ids) < max_tokens:
            self.forward(ids[-1:])
            ids.append(self.arg_max())
        return {"ids": ids, "prefill_seconds": prefill, "decode_seconds": time.perf_counter() - begin}
