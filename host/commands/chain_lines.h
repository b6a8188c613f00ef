// Chains over lines: what the commands score and filter do, and the host API with its own chains.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "core/base/status.h"
#include "host/chain/filter_chain.h"
#include "host/chain/reward_chain.h"
#include "host/commands/io.h"

namespace retort::host {

// Writes each line of `input` with its rewards, in chunks of whole groups; then chain.Finish().
Status ScoreLines(RewardChain& chain, InputLines input, const ChainCall& call, CommandIo& io);

// Writes the lines that the chain keeps, rewritten where a filter rewrote them; hands every drop to
// `audit` (may be empty); tells the counts in a message; then chain.Finish().
Status FilterLines(FilterChain& chain, InputLines input, const ChainCall& call, CommandIo& io,
                   const std::function<Status(const AuditEntry&)>& audit);

}  // namespace retort::host
