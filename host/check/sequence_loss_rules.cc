// SPDX-License-Identifier: Apache-2.0
#include "host/check/sequence_loss_rules.h"

namespace retort::host::check {
namespace {

constexpr Rule kRules[] = {
    {"sequence_loss.spec", "R5", "spec is complete, and the same whenever it is asked for",
     "make the spec once, in create, from the config alone; name each aux value once",
     sequence_loss::Spec},
    {"sequence_loss.derivative", "R6", "d_logp, d_entropy and d_value are derivatives of the loss",
     "compare your derivatives with central differences of your loss; if a part of the loss is "
     "held "
     "constant on purpose, set RETORT_LOSS_SURROGATE",
     sequence_loss::Derivative},
    {"sequence_loss.on_policy", "R6", "without old_logp the ratio is 1, with logp's derivative",
     "where old_logp is NULL, take logp's value in its place", sequence_loss::OnPolicy},
    {"sequence_loss.precision", "R6", "f32 and f64 inputs give the same results",
     "use one formula for both; set RETORT_LOSS_F64 only where eval takes it",
     sequence_loss::Precisions},
    {"sequence_loss.finite", "R6", "results are finite for log-probabilities 30 nats apart",
     "compute in f64 what may overflow; take no log of a value that may be 0",
     sequence_loss::Finite},
    {"sequence_loss.masked", "R6", "masked tokens have derivatives of exactly 0, and no influence",
     "skip a token whose mask is 0 before you read anything else of it", sequence_loss::Masked},
    {"sequence_loss.empty", "R6", "no sequence, empty ones and all-masked ones are fine",
     "divide by the global counts, never by what is in the call", sequence_loss::Empty},
    {"sequence_loss.parts", "R6", "the parts of several calls add up to one call's loss",
     "normalise by the global counts only; a mean over the call needs accumulation_steps",
     sequence_loss::Parts},
    {"sequence_loss.memory", "R6", "every output element is set, and nothing else is written",
     "write T elements of each derivative and 2 n_aux of aux; never write to inputs",
     sequence_loss::Memory},
    {"sequence_loss.outputs", "R6", "derivatives that are not wanted change nothing else",
     "look for NULL before you write to d_logp, d_entropy and d_value", sequence_loss::Outputs},
    {"sequence_loss.growth", "R3", "argument structs may be larger than it knows",
     "refuse a struct only where it is smaller than in the first version", sequence_loss::Grown},
    {"sequence_loss.threads", "R8", "n_threads does not change a bit",
     "add up in a fixed order, whatever the number of threads", sequence_loss::Threads},
    {"sequence_loss.repeat", "R9", "the same call gives the same bits, also in a fresh instance",
     "keep nothing from call to call; take randomness from call->key only", sequence_loss::Repeat},
    {"sequence_loss.dtype", "R6", "a dtype that it does not take is UNIMPLEMENTED",
     "look at the dtype of logp before you touch its data", sequence_loss::Dtypes},
    {"sequence_loss.side_inputs", "R6",
     "without a needed side input FAILED_PRECONDITION, only then",
     "look for NULL before you use a side input, and say in needs and optional which you use",
     sequence_loss::SideInputs},
};

}  // namespace

std::span<const Rule> SequenceLossRules() { return kRules; }

}  // namespace retort::host::check
