// SPDX-License-Identifier: Apache-2.0
#include "host/check/op_rules.h"

namespace retort::host::check {
namespace {

constexpr Rule kRules[] = {
    {"op.infer", "R5", "infer is legal and pure, only sizes depend on the rows",
     "answer from the config and the inputs' shapes alone; where the kit finds no inputs that the "
     "op takes, name them with --inputs",
     op::Infer},
    {"op.gradient", "R6", "backward gives the derivatives of forward",
     "compare your derivatives with central differences of forward; set the bits of all that "
     "backward reads",
     op::Gradient},
    {"op.sequences", "R6", "packed sequences don't influence each other",
     "start anew at every entry of cu_seqlens", op::Sequences},
    {"op.rowwise", "R6", "with ROWWISE a row alone gives what it gives among others",
     "set RETORT_OP_ROWWISE only where row t of the outputs needs row t of the inputs alone",
     op::Rowwise},
    {"op.decode", "R6", "token by token the rows are those of forward over the whole",
     "leave in the state all that later tokens need, in the slot of each sequence and no other",
     op::Decode},
    {"op.memory", "R6", "every output element is set, and nothing else is written",
     "write the elements that the shapes say; never write to in, saved (in backward) or d_out",
     op::Memory},
    {"op.outputs", "R6", "what is not wanted changes nothing else",
     "look for NULL before you write d_in[i], and at n_saved before you write saved", op::Outputs},
    {"op.growth", "R3", "argument structs may be larger than it knows",
     "refuse a struct only where it is smaller than in the first version", op::Grown},
    {"op.threads", "R8", "n_threads does not change a bit",
     "add up in a fixed order, whatever the number of threads", op::Threads},
    {"op.repeat", "R9", "the same call gives the same bits, also in a fresh instance",
     "keep nothing from call to call; take randomness from call->key only", op::Repeat},
    {"op.inplace", "R6", "with INPLACE, out[0] may be the memory of in[0]",
     "read an element of in[0] before you write it, or don't set RETORT_OP_INPLACE", op::InPlace},
    {"op.empty", "R6", "no rows and empty sequences are fine",
     "touch no data of a tensor without elements; still set the derivatives of params to 0",
     op::Empty},
    {"op.dtype", "R6", "a dtype that it does not take is UNIMPLEMENTED",
     "look at the inputs' dtypes in infer", op::Dtypes},
};

}  // namespace

std::span<const Rule> OpRules() { return kRules; }

}  // namespace retort::host::check
