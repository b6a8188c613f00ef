// What the tests that train against a recorded oracle share: a session on the built engine, and the
// documents of a golden as one packed batch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/engine/engine.h"
#include "core/json/json.h"
#include "host/session/session.h"
#include "tests/golden/program.h"

namespace retort::golden {

inline host::SessionOptions EngineOptions() {
  host::SessionOptions options;
  options.plugin_dir = RETORT_PLUGIN_DIR;
  options.engine_path = RETORT_ENGINE_FILE;
  return options;
}

// `window` has `ids` of each document and `n_prompt`, the tokens at its start without a label.
inline engine::MicroBatch BatchOf(json::Value window) {
  engine::MicroBatch batch;
  batch.cu_seqlens = {0};
  const auto firsts = Ints(window["n_prompt"]);
  for (size_t d = 0; d < firsts.size(); ++d) {
    const auto ids = Ints(window["ids"][d]);
    for (size_t t = 0; t < ids.size(); ++t) {
      const bool has_label = t + 1 < ids.size() && static_cast<int64_t>(t) + 1 >= firsts[d];
      batch.ids.push_back(static_cast<int32_t>(ids[t]));
      batch.positions.push_back(static_cast<int32_t>(t));
      batch.labels.push_back(has_label ? ids[t + 1] : -100);
      batch.weight.push_back(1);
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(batch.ids.size()));
  }
  return batch;
}

}  // namespace retort::golden
