// Named points at which a test can kill the process, to prove that what is on disk then is enough
// to go on from: RETORT_FAULT=checkpoint.renamed in the environment, or checkpoint.renamed:3 for
// the third time. Unarmed, a point is one untaken branch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace retort {

void FaultPoint(const char* name);

}  // namespace retort
