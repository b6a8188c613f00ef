// Stages of kind "repeat": a list of stages that is run several times. They are written out before
// anything else reads the tree, as stages of their own called NAME.ROUND.STAGE.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "host/pipeline/config/schema.h"
#include "host/pipeline/config/tree.h"
#include "host/pipeline/config/validate.h"

namespace retort::host {

// A stage's name is a folder's name, and part of "@name" and "stages.name.key".
bool IsStageName(std::string_view name);

const ObjectSpec& RepeatSpec();

// Replaces each repeat stage of the pipeline by its rounds; gives the names of those that there
// were. In the body "@stage" is that stage in the same round; {"first": x, "then": y} is x in the
// first round and y later, where "@stage" is that of the round before (an element of a list whose
// x is null is not there in the first round); {"all": "@stage"}, a list or an element of one,
// stands for the rounds up to this one. Elsewhere "@NAME.stage" is the last round's. Errors: what
// the keys of a repeat stage may not be, names of stages that are none or not unique, a repeat in a
// repeat.
std::vector<std::string> ExpandRepeats(Node& root, ValidateContext* context);

// Errors without those of later rounds that the first round has as well.
std::vector<std::string> WithoutLaterRounds(const std::vector<std::string>& errors,
                                            const std::vector<std::string>& repeats);

}  // namespace retort::host
