// An application in C around retort: scores JSON lines with a reward plugin of the user's, then
// shows a completion as it is written.
//   embed_c PLUGIN.so ENTRIES SAMPLES.jsonl MODEL PROMPT
// ENTRIES is a reward chain as in a pipeline file: '{"plugin": "mentions", "config": {...}}'.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <stdio.h>

#include "retort/host.h"

// [context.begin]
static void on_log(void* ctx, int32_t level, retort_str text) {
  (void)ctx;
  fprintf(stderr, "%s%.*s\n", level >= RETORT_LOG_ERROR ? "error: " : "", (int)text.len, text.ptr);
}

static retort_context* new_context(void) {
  retort_context_options options = {.struct_size = sizeof options};
  options.log = on_log;
  options.log_level = RETORT_LOG_WARNING;
  options.host_name = retort_text("embed_c");
  options.host_version = retort_text("1.0.0");
  retort_context* context = NULL;
  retort_context_create(&options, &context);  // a failure has told the log why
  return context;
}

// Prints why the last call failed.
static int failed(const retort_context* context, const char* what, retort_status status) {
  const retort_str why = retort_context_error(context);
  fprintf(stderr, "%s: %s: %.*s\n", what, retort_status_name(status), (int)why.len, why.ptr);
  return 1;
}
// [context.end]

// [cancel.begin]
static retort_context* to_cancel;  // Ctrl-C stops the running call cleanly
static void on_interrupt(int signal_number) {
  (void)signal_number;
  retort_cancel(to_cancel);
}
// [cancel.end]

// [score.begin]
static int64_t read_file(void* ctx, void* data, uint64_t n) {
  FILE* file = ctx;
  const size_t got = fread(data, 1, n, file);
  return got == 0 && ferror(file) ? -1 : (int64_t)got;
}

static int64_t write_file(void* ctx, const void* data, uint64_t n) {
  const size_t written = fwrite(data, 1, n, ctx);
  return written == 0 ? -1 : (int64_t)written;
}

static retort_status score(retort_context* context, const char* plugin, const char* entries,
                           FILE* samples) {
  retort_status status = retort_context_load_plugin(context, retort_text(plugin));
  if (status != RETORT_OK) return status;
  retort_chain_options options = {.struct_size = sizeof options};
  options.entries = retort_text(entries);
  retort_reward_chain* chain = NULL;
  status = retort_reward_chain_create(context, &options, &chain);
  if (status != RETORT_OK) return status;
  const retort_reader lines = {samples, read_file};
  const retort_sink scored = {stdout, write_file};
  status = retort_reward_chain_score_lines(chain, &lines, &scored);
  retort_reward_chain_destroy(chain);
  return status;
}
// [score.end]

// [generate.begin]
static int32_t on_delta(void* ctx, const retort_generate_delta* delta) {
  (void)ctx;
  fwrite(delta->text.ptr, 1, delta->text.len, stdout);
  fflush(stdout);
  return 0;  // anything else stops the generation
}

static int32_t on_done(void* ctx, const retort_generate_done* done) {
  static const char* const finish[] = {"a stop token", "the token limit", "a cancel", "an error"};
  (void)ctx;
  printf("\n-- %u tokens, ended by %s\n", (unsigned)done->n_ids, finish[done->finish & 3]);
  return 0;
}

static retort_status generate(retort_context* context, const char* path, const char* text) {
  retort_model_options options = {.struct_size = sizeof options};
  options.path = retort_text(path);
  retort_model* model = NULL;
  retort_status status = retort_model_open(context, &options, &model);
  if (status != RETORT_OK) return status;
  retort_generate_prompt prompt = {.prompt = retort_text(text)};
  retort_generate_args args = {.struct_size = sizeof args};
  args.prompts = &prompt;
  args.prompt_stride = sizeof prompt;
  args.n_prompts = 1;
  args.options = retort_text("{\"chat\": true, \"temperature\": 0, \"max_tokens\": 24}");
  args.delta = on_delta;
  args.done = on_done;
  status = retort_model_generate(model, &args);
  retort_model_destroy(model);
  return status;
}
// [generate.end]

int main(int argc, char** argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: %s PLUGIN.so ENTRIES SAMPLES.jsonl MODEL PROMPT\n", argv[0]);
    return 2;
  }
  FILE* samples = fopen(argv[3], "rb");
  if (samples == NULL) {
    perror(argv[3]);
    return 2;
  }
  retort_context* context = new_context();
  if (context == NULL) return 1;
  to_cancel = context;
  signal(SIGINT, on_interrupt);
  int code = 0;
  retort_status status = score(context, argv[1], argv[2], samples);
  if (status != RETORT_OK) code = failed(context, "score", status);
  if (code == 0) {
    status = generate(context, argv[4], argv[5]);
    if (status != RETORT_OK) code = failed(context, "generate", status);
  }
  signal(SIGINT, SIG_DFL);
  retort_context_destroy(context);
  fclose(samples);
  return code;
}
