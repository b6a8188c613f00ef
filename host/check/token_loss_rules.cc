// SPDX-License-Identifier: Apache-2.0
#include "host/check/token_loss_rules.h"

namespace retort::host::check {
namespace {

constexpr Rule kRules[] = {
    {"token_loss.spec", "R5", "spec is complete, and the same whenever it is asked for",
     "make the spec once, in create, from the config alone; name each aux value once",
     token_loss::Spec},
    {"token_loss.gradient", "R6", "the gradient is weight times the derivative of the loss",
     "compare your derivative with central differences of your loss; if a part of the loss is held "
     "constant on purpose, set RETORT_LOSS_SURROGATE",
     token_loss::Gradient},
    {"token_loss.precision", "R6", "f32, bf16 and f64 logits give the same results",
     "use one formula for all dtypes; set RETORT_LOSS_BF16 and _F64 only where rows takes them",
     token_loss::Precisions},
    {"token_loss.finite", "R6", "loss, gradient and aux are finite for extreme logits",
     "subtract the row's maximum before exp; take no log of a probability that may be 0",
     token_loss::Finite},
    {"token_loss.zero_weight", "R6", "a row of weight 0 has a gradient of exactly 0",
     "write zeros into rows of weight 0, and don't read their labels", token_loss::ZeroWeight},
    {"token_loss.weight", "R6", "the gradient is proportional to weight, the loss free of it",
     "multiply the gradient by weight, once, and nothing else", token_loss::Weight},
    {"token_loss.chunks", "R6", "rows split over calls give what one call gives",
     "let a row depend on its own inputs only, or declare grain SEQUENCE or GROUP",
     token_loss::Chunks},
    {"token_loss.memory", "R6", "only outputs are written, within their bounds, row by row",
     "walk rows by strides[0], write V elements of each, and write to logits only with WANT_GRAD",
     token_loss::Memory},
    {"token_loss.outputs", "R6", "what is not wanted changes nothing else",
     "skip aux where it is NULL and the gradient without WANT_GRAD; compute the rest the same way",
     token_loss::Outputs},
    {"token_loss.growth", "R3", "argument structs may be larger than it knows",
     "refuse a struct only where it is smaller than in the first version", token_loss::Grown},
    {"token_loss.threads", "R8", "n_threads does not change a bit",
     "split work by rows, not by the number of threads; add up in a fixed order",
     token_loss::Threads},
    {"token_loss.repeat", "R9", "the same call gives the same bits, also in a fresh instance",
     "keep nothing from call to call; take randomness from call->key only", token_loss::Repeat},
    {"token_loss.labels", "R7", "a label outside 0..V-1 is INVALID_ARGUMENT",
     "compare each label with V before you use it as an index", token_loss::Labels},
    {"token_loss.dtype", "R6", "a dtype or device that it does not take is UNIMPLEMENTED",
     "look at dtype and device of logits before you touch their data", token_loss::Dtypes},
    {"token_loss.side_inputs", "R6", "it fails without a side input that it needs, only then",
     "look for NULL before you use a side input, and say in needs and optional which you use",
     token_loss::SideInputs},
};

}  // namespace

std::span<const Rule> TokenLossRules() { return kRules; }

}  // namespace retort::host::check
