// Tables that several others are made of: entries of chains, how text is made, how training goes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "host/pipeline/config/schema.h"

namespace retort::host {

const ObjectSpec& RewardEntrySpec();     // an entry of `rewards`
const ObjectSpec& FilterEntrySpec();     // an entry of `filters`
const ObjectSpec& LossEntrySpec();       // an entry of `loss`
const ObjectSpec& SourceEntrySpec();     // `source` of a data entry
const ObjectSpec& GeneratorEntrySpec();  // `generator` of a generate stage

// Keys that kinds of stages share.
KeySpec NameKey();
KeySpec KindKey();
KeySpec DataKey();
KeySpec LimitKey();
KeySpec ChatKey();
KeySpec TruncationKey();
KeySpec TrainOnKey();
KeySpec PrefixKey(const char* summary);
KeySpec SamplingKey(const char* fallback);
KeySpec BatchSlots();
KeySpec KvDtypeKey();
KeySpec KvMemoryKey();
KeySpec PrefillChunkKey();

std::vector<KeySpec> OptimizerKeys();  // what is trained, at which rates
std::vector<KeySpec> TrainingKeys();   // schedule, sizes of a step
std::vector<KeySpec> KeepingKeys();    // what is logged, saved and evaluated

}  // namespace retort::host
