// The kernels of packed matrices of one level.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/packed_widen.h"

namespace retort::kernels::RETORT_KERNELS_NS {

void HalfOutputs(const PackedArgs& args, int64_t begin, int64_t end);
void PanelOutputs(const PackedArgs& args, int64_t begin, int64_t end);
void PanelColumns(const PackedArgs& args, int64_t begin, int64_t end);

#if RETORT_KERNELS_LEVEL == 2
static constexpr int64_t kHalfRows = INT64_MAX;
#else
static constexpr int64_t kHalfRows = 16;
#endif

extern constexpr PackedTable kPacked = {.half_rows = kHalfRows,
                                        .half_outputs = HalfOutputs,
                                        .panel_outputs = PanelOutputs,
                                        .panel_columns = PanelColumns};

}  // namespace retort::kernels::RETORT_KERNELS_NS
