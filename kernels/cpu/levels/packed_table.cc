// The kernels of packed matrices of one level.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/packed_widen.h"

namespace retort::kernels::RETORT_KERNELS_NS {

void PanelOutputs(const PackedArgs& args, int64_t begin, int64_t end);
void PanelColumns(const PackedArgs& args, int64_t begin, int64_t end);

extern constexpr PackedTable kPacked = {.panel_outputs = PanelOutputs,
                                        .panel_columns = PanelColumns};

}  // namespace retort::kernels::RETORT_KERNELS_NS
