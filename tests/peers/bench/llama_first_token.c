/* llama.cpp's side of "process start to first token": a whole program that does what
 * `retort generate --max-tokens 1` does. Compiled by bench/text.py against the headers and
 * libraries that llama-cpp-python installs.
 *
 * Usage: llama_first_token MODEL THREADS TEXT
 * Prints the text of the greedy next token; the prompt's number of tokens goes to stderr.
 * llama.cpp's defaults (mapped weights, no warm-up); keys and values f32, as retort's.
 * SPDX-License-Identifier: Apache-2.0 */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 512 };

static void silent(enum ggml_log_level level, const char* text, void* data) {
  (void)level;
  (void)text;
  (void)data;
}

static void fail(const char* what) {
  fprintf(stderr, "llama_first_token: %s failed\n", what);
  exit(1);
}

static llama_token greedy(struct llama_context* context, int n_vocab) {
  const float* logits = llama_get_logits_ith(context, -1);
  int best = 0;
  for (int i = 1; i < n_vocab; ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

int main(int argc, char** argv) {
  if (argc != 4) fail("usage: MODEL THREADS TEXT");
  const int threads = atoi(argv[2]);
  llama_log_set(silent, NULL);
  llama_backend_init();
  struct llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == NULL) fail("loading the model");
  const struct llama_vocab* vocab = llama_model_get_vocab(model);

  llama_token ids[MOST_TOKENS];
  const int n = llama_tokenize(vocab, argv[3], (int)strlen(argv[3]), ids, MOST_TOKENS, true, true);
  if (n <= 0) fail("tokenizing the prompt");

  struct llama_context_params options = llama_context_default_params();
  options.n_ctx = 1024;
  options.n_threads = options.n_threads_batch = threads;
  options.type_k = options.type_v = GGML_TYPE_F32;
  struct llama_context* context = llama_init_from_model(model, options);
  if (context == NULL) fail("making the context");
  if (llama_decode(context, llama_batch_get_one(ids, n)) != 0) fail("decoding the prompt");

  char piece[256];
  const llama_token first = greedy(context, llama_vocab_n_tokens(vocab));
  const int bytes = llama_token_to_piece(vocab, first, piece, sizeof piece, 0, true);
  if (bytes < 0) fail("the token's text");
  fwrite(piece, 1, (size_t)bytes, stdout);
  fflush(stdout);
  fprintf(stderr, "%d\n", n);
  llama_free(context);
  llama_model_free(model);
  return 0;
}
