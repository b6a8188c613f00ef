// What the host sees of libretort_engine: plain structs and abstract classes, no ATen type.
// The library is opened at first use (host/session) and gives one function, CreateEngine.
// Unless said otherwise: not thread-safe, one call at a time per Model; errors are Status,
// never exceptions; views handed out stay valid until the next call that changes the model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/packed_rows.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"
#include "core/model/source.h"
#include "core/model/storage.h"
#include "retort/abi/draft/loss.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::text {
class Tokenizer;
}

namespace retort::engine {

// Set from a signal handler or another thread; polled between micro-batches and decode steps.
using Cancel = std::atomic<int32_t>;

// ---- scoring ---------------------------------------------------------------------------------

// The likeliest tokens of each row: what is cached of a teacher. R rows; in a micro-batch all of
// its rows, of which row t predicts token t + 1.
struct TeacherRows {
  int32_t k = 0;             // entries of a row; 0: no cache
  std::vector<int32_t> ids;  // [R,K], the likeliest first; -1: unused
  std::vector<float> logp;   // [R,K], natural log, at the temperature they were made for
  std::vector<float> tail;   // [R], log of the rest's probability
};
struct ScoreRequest {
  std::span<const int32_t> ids;  // prompt and completion joined
  int64_t first = 1;             // first position whose token is scored (at least 1)
  int32_t adapter = -1;          // of graph().adapters; -1: the base alone
  double temperature = 1;        // logits are divided by it first
  bool want_logp = true;         // of the tokens; and only then the two below
  bool want_entropy = false;
  int32_t top_k = 0;         // likeliest tokens wanted of each row; 0: none
  bool want_values = false;  // of the model's value head
  // The rows of its tokens up to first - 1, that one left out, may be those of a request before it
  // that begins with the same: the results are then equal to rounding. Without effect where not
  // graph::TextsMayShareRows.
  bool shares_prompt = false;
};
struct ScoreResult {
  std::vector<float> logp;     // of tokens first .. ids.size()-1, each given those before it
  std::vector<float> entropy;  // of the distributions over the same tokens, in nats; if wanted
  TeacherRows rows;            // if wanted
  // If wanted: of the states that predict the same tokens, and of the one that has read all.
  std::vector<float> values;
  float last_value = 0;
};

// ---- generation ------------------------------------------------------------------------------

struct SamplingParams {
  double temperature = 1.0;  // 0: greedy, lowest id on ties
  int32_t top_k = 0;         // 0: off
  double top_p = 1.0;
  double min_p = 0;               // share of the likeliest token's probability; 0: off
  double repetition_penalty = 1;  // of ids in prompt and completion: logits / it, or * it below 0
  double presence_penalty = 0;    // taken once from the logit of an id in the completion,
  double frequency_penalty = 0;   // and this for every time that it stands there
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // added to logits of ids, first of all
  int32_t max_tokens = 256;
  int32_t min_tokens = 0;              // stop ids are not sampled before
  std::vector<int32_t> stop_ids = {};  // end a sample; kept as its last id, not in its text
  std::vector<std::string> stop = {};  // likewise; cut from the text (ids keep what was sampled)
  uint64_t seed = 0;
};

enum class Finish : uint32_t { kStop = 0, kLength = 1, kCancelled = 2, kError = 3 };

struct GenerateRequest {
  uint64_t uid =
      0;  // names the request; its tokens depend only on (weights, ids, params, uid, index)
  std::vector<int32_t> ids;     // prompt, never empty
  std::vector<int32_t> prefix;  // forced start of each completion: counts as completion
  int32_t n_samples = 1;
  SamplingParams sampling;
  const Cancel* cancel = nullptr;  // of this request alone
};
struct Completion {
  uint64_t uid = 0;
  int32_t index = 0;         // of n_samples
  std::vector<int32_t> ids;  // with the prefix and the stop token
  std::vector<float> logp;   // of ids, temperature-scaled full vocabulary (0 for the prefix)
  std::string text;          // without the stop token or stop string
  Finish finish = Finish::kStop;
  std::string error;  // kError: why (a request that can never fit, say)
};
struct GenerateOptions {
  int32_t max_batch = 16;        // samples decoded together
  int64_t max_context = 0;       // tokens of a sample with its prompt; 0: the longest request
  DType kv_dtype = DType::kF32;  // of cached keys and values: f32, bf16 or i8
  int64_t kv_memory = 0;         // bytes of the cache's blocks; 0: what max_batch samples need
  int32_t prefill_chunk = 512;   // prompt tokens a pass, and between two decode steps
  int32_t adapter = -1;          // of graph().adapters; -1: the base alone
  const text::Tokenizer* tokenizer = nullptr;  // for text and stop strings; may be NULL
  // Called from the calling thread. `on_done` in order of completion, once per (uid, index);
  // `on_text` with whole characters.
  std::function<void(const Completion&)> on_done = {};
  std::function<void(uint64_t uid, int32_t index, std::string_view text)> on_text = {};
  std::function<void(int64_t tokens_so_far)> on_progress = {};
  const Cancel* cancel = nullptr;
};
struct GenerateStats {
  int64_t prompt_tokens = 0;      // prefilled: once a prompt, whatever its samples
  int64_t completion_tokens = 0;  // drawn
  int64_t prefill_passes = 0, decode_steps = 0;
  int64_t kv_blocks = 0, kv_blocks_peak = 0, kv_block_bytes = 0;  // of the cache: all, most in use
  int64_t live_peak = 0;                                          // samples decoded together
  double prefill_seconds = 0, decode_seconds = 0;
};

// ---- training --------------------------------------------------------------------------------

// What losses see beside labels. Each vector is empty (the input isn't there) or has an entry per
// token; entry t is of token t itself, as in retort_sequence_loss_args, not of the row before it.
struct SequenceInputs {
  std::vector<float> old_logp, ref_logp, behaviour_logp, policy_weight;
  std::vector<float> old_value, returns, advantage;
  std::vector<int32_t> group_id;  // [S]
  std::vector<float> target;      // [S]
};
// Which parts of the loss chain a micro-batch is for.
inline constexpr uint32_t kTokenLosses = 1, kSequenceLosses = 2, kAllLosses = 3;

// Packed documents: no padding. All spans have T elements, cu_seqlens S + 1.
struct MicroBatch {
  std::vector<int32_t> ids, positions, cu_seqlens;
  // Per sequence, or empty. One that goes on from rows of another begins with the token behind
  // those, at its position. Only where graph::TextsMayShareRows.
  std::vector<Prefix> prefixes = {};
  std::vector<int64_t>
      labels;  // of the row that predicts it: labels[t] is the token after t; -100: none
  std::vector<float> weight;  // per label before normalisation; usually 1
  SequenceInputs sequence = {};
  TeacherRows teacher = {};
  uint32_t losses = kAllLosses;
};

struct TokenLoss {  // one entry of the loss chain: the (checked) C table and its instance
  std::string name;
  const retort_token_loss_v1* table = nullptr;
  retort_instance* instance = nullptr;
  double weight = 1;
};
// Likewise of losses over whole sequences: they see log-probabilities of the labels' tokens.
struct SequenceLoss {
  std::string name;
  const retort_sequence_loss_v1* table = nullptr;
  retort_instance* instance = nullptr;
  double weight = 1;
};
struct Optimizer {
  std::string name;
  const retort_optimizer_v1* table = nullptr;
  retort_instance* instance = nullptr;
};
// Params with rates of their own. Patterns: ECMAScript regexes, searched in names.
struct ParamGroup {
  std::string pattern;
  double lr_scale = 1;                      // of the step's learning rate
  std::optional<double> weight_decay = {};  // of all of them; none: as of any other param
};
class Model;
inline constexpr int32_t kRecomputeAuto = -1;
struct TrainerOptions {
  std::vector<TokenLoss> losses;  // this or the next has at least one
  std::vector<SequenceLoss> sequence_losses;
  double temperature = 1;            // of the log-probabilities that sequence losses see
  double max_completion_length = 1;  // likewise
  // Gives token losses the logits of the same rows; of the same engine, outlives the trainer, not
  // used elsewhere during a step. Its vocabulary may be longer or shorter by padding: losses see
  // the columns that both have.
  Model* teacher = nullptr;
  Optimizer optimizer;
  double weight_decay = 0;            // of params that decay
  std::vector<ParamGroup> groups;     // a param is of the first that matches
  std::vector<std::string> no_decay;  // lower-case regexes; empty: transformers' default list
  double max_grad_norm = 1.0;         // 0: no clipping
  int64_t head_rows = 0;              // rows of a head chunk; 0: chosen from shape
  // What backward computes again instead of finding it kept. 0: nothing, 1: norms' outputs and
  // (gated) activations, 2: all inside a block; kRecomputeAuto: the least that fits memory_limit.
  // Gradients are the same bits at every level.
  int32_t recompute = 0;
  int64_t memory_limit = 0;  // bytes, of the whole process; 0: what the system allows
  // For kRecomputeAuto: the most tokens that come at once (0: 2048), those of the longest document
  // (0: as many), and the micro-batches of a step.
  int64_t micro_batch_tokens = 0, longest = 0, micro_batches = 1;
  int32_t adapter = -1;             // trained alone, the base frozen; -1: the base is trained
  uint64_t key_hi = 0, key_lo = 0;  // (seed, stage)
};
struct StepMetric {
  std::string_view name;  // of a loss, or an aux of a loss plugin ("sft/entropy"); the trainer's
  double value = 0;
};
struct StepResult {
  double loss = 0;       // weighted sum of the chain
  double grad_norm = 0;  // before clipping
  int64_t tokens = 0, label_tokens = 0;
  // Each loss by its name, each aux. The trainer's memory: until its next step or evaluation.
  std::span<const StepMetric> metrics;
};
// A named view of optimizer state, for checkpoints: "<param>.<state>".
struct StateTensor {
  std::string name;
  TensorView view;
};

class Trainer {
 public:
  virtual ~Trainer() = default;
  // One optimizer step over an accumulation window. `step` counts from 0 (the optimizer sees
  // step + 1). Losses are normalised by the window's label count. Non-finite loss or gradient:
  // DATA_LOSS before any weight changes. Cancelled: CANCELLED, likewise nothing changed.
  virtual Result<StepResult> Step(std::span<const MicroBatch> window, double learning_rate,
                                  int64_t step, const Cancel* cancel) = 0;
  // The same loss without gradients or update: nothing that a later step reads has changed.
  // CANCELLED as soon as `cancel`, which may be NULL, says so.
  virtual Result<StepResult> Evaluate(std::span<const MicroBatch> window, const Cancel* cancel) = 0;
  virtual std::vector<StateTensor> State() = 0;
  virtual Result<std::string> SaveScalars() = 0;  // the optimizer plugin's own bytes
  virtual Status LoadScalars(std::string_view bytes) = 0;
  // The recompute level in use.
  virtual int32_t recompute() const = 0;
  // Gradients of the last step, until the next one or an evaluation, in checkpoint-free param
  // order; for tests and tools.
  virtual std::vector<StateTensor> Gradients() = 0;
};

// ---- models ----------------------------------------------------------------------------------

using model::Storage;  // how weights lie in memory

struct LoadOptions {
  bool for_training = false;  // weights that get gradients are f32 then, whatever `storage` says
  Storage storage = Storage::kF32;
  uint64_t init_seed = 0;  // Create, adapters without a file, optional params not in the source
  // Patterns of what is trained (empty: all) and what is not, with for_training: regexes, searched
  // in names. One that matches nothing is INVALID_ARGUMENT.
  std::vector<std::string> trainable = {}, frozen = {};
  // Folders of the graph's adapters (PEFT), as graph.adapters; "": freshly initialised.
  std::vector<std::string> adapters = {};
};

class Inference;

class Model {
 public:
  virtual ~Model() = default;
  virtual const graph::Graph& graph() const = 0;
  // Its forward pass, for the engine itself (a teacher's).
  virtual Inference& inference() = 0;
  // Per-token log-probabilities; requests are packed into passes of at most `max_tokens` tokens
  // (0: chosen). Logits of a whole batch never exist. on_progress(tokens done) may be empty.
  virtual Result<std::vector<ScoreResult>> Score(
      std::span<const ScoreRequest> requests, int64_t max_tokens, const Cancel* cancel,
      const std::function<void(int64_t)>& on_progress) = 0;
  virtual Result<GenerateStats> Generate(std::span<const GenerateRequest> requests,
                                         const GenerateOptions& options) = 0;
  virtual Result<std::unique_ptr<Trainer>> NewTrainer(const TrainerOptions& options) = 0;
  // The weights under their param names (graph().params order); writable, live.
  virtual std::vector<StateTensor> Params() = 0;
  virtual int64_t weight_bytes() const = 0;
  virtual const model::StorageReport& storage() const = 0;  // in which types they are kept
};

struct EngineOptions {
  int32_t n_threads = 0;  // 0: all cores this process may use
};
struct EngineInfo {
  std::string libtorch_version, cpu_capability, kernel_level;
  int32_t n_threads = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual EngineInfo Info() const = 0;
  virtual Result<std::unique_ptr<Model>> Load(const model::Source& source, graph::Graph graph,
                                              const LoadOptions& options) = 0;
  // Random weights by the params' init rules, keyed by options.init_seed.
  virtual Result<std::unique_ptr<Model>> Create(graph::Graph graph, const LoadOptions& options) = 0;
};

// The one symbol of libretort_engine: "retort_engine_create". The caller owns the result.
using CreateEngineFn = Engine* (*)(const EngineOptions* options);
inline constexpr const char* kCreateEngineSymbol = "retort_engine_create";

}  // namespace retort::engine
