// trainer/manifest.json: what a checkpoint is made of, as text and back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/checkpoint/checkpoint.h"

namespace retort::checkpoint {

inline constexpr const char* kTrainerFolder = "trainer";
inline constexpr const char* kManifestName = "trainer/manifest.json";
inline constexpr const char* kStateName = "trainer/optimizer.safetensors";
inline constexpr const char* kScalarsName = "trainer/optimizer.bin";
inline constexpr const char* kTrainerStateName = "trainer/trainer_state.json";

std::string WriteManifest(const Manifest& manifest);
// `what` names the file in errors; file names that leave the folder are refused.
Result<Manifest> ReadManifest(std::string_view text, const std::string& what);

}  // namespace retort::checkpoint
