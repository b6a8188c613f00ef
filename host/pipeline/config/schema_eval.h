// Keys of evaluations: of eval stages, and of stages that train and measure in between.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "host/pipeline/config/schema.h"
#include "host/pipeline/config/tree.h"

namespace retort::host {

const ObjectSpec& EvalSpec();  // an eval stage

// Of every stage that trains: when it is evaluated, on what, and which checkpoint is the best.
std::vector<KeySpec> EvaluationKeys();
// `eval` of stages whose models answer prompts.
KeySpec EvalKey();

// What the `eval` of a stage leaves out is as in the stage itself: the data of eval_data, chat, and
// in a grpo stage, which is evaluated in this way alone, also how completions are drawn and scored.
void FillEvalDefaults(Node& root);

}  // namespace retort::host
