// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/library/host_api.h"

#include <map>

namespace retort::host {

std::string TinyPipeline(const std::string& output) {
  return R"({"retort": 1, "name": "tiny", "seed": 7, "output": )" + Quoted(output) + R"(,
  "models": {"m": )" +
         Quoted(Fixture("qwen2")) + R"(},
  "data": {"q": {"path": )" +
         Quoted(Fixture("gsm8k/train_small.jsonl")) + R"(, "map": {"prompt": "question"}},
           "refs": {"path": )" +
         Quoted(Fixture("gsm8k/train_small.jsonl")) + R"(, "limit": 6,
                    "map": {"prompt": "question", "completion": "{answer}"}}},
  "stages": [
    {"name": "cot", "kind": "generate", "model": "m", "data": "q", "samples": 2, "limit": 4,
     "sampling": {"temperature": 0.9, "max_tokens": 24}},
    {"name": "clean", "kind": "filter", "data": ["@cot", "refs"],
     "filters": [{"plugin": "length", "config": {"min_tokens": 2}}]},
    {"name": "sft", "kind": "sft", "model": "m", "data": "@clean", "learning_rate": 1e-3,
     "max_steps": 4, "batch_tokens": 128, "max_length": 128, "logging_steps": 1}
  ]})";
}

Generated Generate(retort_model* model, const std::vector<std::string>& prompts,
                   const std::string& options) {
  struct State {
    std::map<std::pair<uint64_t, uint32_t>, std::string> streamed, lines;
  } state;
  std::vector<retort_generate_prompt> given(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) given[i].prompt = Str(prompts[i]);
  auto args = Sized<retort_generate_args>();
  args.prompt_stride = sizeof(retort_generate_prompt);
  args.prompts = given.data();
  args.n_prompts = given.size();
  args.options = Str(options);
  args.ctx = &state;
  args.delta = [](void* ctx, const retort_generate_delta* delta) -> int32_t {
    static_cast<State*>(ctx)->streamed[{delta->prompt, delta->sample}] += Text(delta->text);
    return 0;
  };
  args.done = [](void* ctx, const retort_generate_done* done) -> int32_t {
    auto& self = *static_cast<State*>(ctx);
    self.lines[{done->prompt, done->sample}] = Text(done->json);
    EXPECT_EQ((self.streamed[{done->prompt, done->sample}]), Text(done->text));
    return 0;
  };
  Generated out;
  out.status = retort_model_generate(model, &args);
  for (const auto& [key, line] : state.lines) out.lines.push_back(line);
  for (const auto& [key, text] : state.streamed) out.streamed.push_back(text);
  return out;
}

}  // namespace retort::host
