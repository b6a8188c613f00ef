// Records of a source plugin, read to its end, in the shape that files of records have.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/status.h"
#include "core/data/record.h"
#include "host/pipeline/config/config.h"
#include "host/session/session.h"

namespace retort::host {

// `name`: of the data entry; part of the records' uids, so that two sources don't clash.
// A record that the source could not read, or that the format does not fit, is a bad line: over
// the share that options allow, an error that names its origin.
Result<data::RecordSet> ReadSource(Session& session, const PluginUse& use, const std::string& name,
                                   const data::RecordOptions& options);

}  // namespace retort::host
