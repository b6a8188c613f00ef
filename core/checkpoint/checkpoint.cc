// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "core/base/fault.h"
#include "core/checkpoint/manifest.h"
#include "core/io/safetensors.h"

namespace retort::checkpoint {
namespace {

constexpr std::string_view kPrefix = "checkpoint-";
constexpr uint64_t kManifestBytes = uint64_t{1} << 20;
constexpr uint64_t kScalarBytes = uint64_t{64} << 20;

std::optional<int64_t> StepOf(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool whole = parsed.ec == std::errc() && parsed.ptr == name.data() + name.size();
  return whole && step >= 0 ? std::optional<int64_t>(step) : std::nullopt;
}

// Steps of the checkpoints in `parent`, newest first.
Result<std::vector<int64_t>> Steps(io::FileSystem& fs, const std::string& parent) {
  std::vector<int64_t> steps;
  RETORT_ASSIGN_OR_RETURN(const bool there, io::IsThere(fs, parent));
  if (!there) return steps;
  RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(parent));
  for (const std::string& name : names) {
    if (const auto step = StepOf(name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::string FolderOf(const std::string& parent, int64_t step) {
  return io::Join(parent, std::string(kPrefix) + std::to_string(step));
}

Status WriteState(io::FileSystem& fs, const std::string& folder, const SaveRequest& request,
                  std::vector<io::FileDigest>* files) {
  std::vector<io::SafetensorsItem> items;
  for (const engine::StateTensor& tensor : request.state) {
    items.push_back({.name = tensor.name, .view = tensor.view, .stored = tensor.view.dtype});
  }
  const std::string state = io::Join(folder, kStateName);
  RETORT_ASSIGN_OR_RETURN(io::FileDigest digest, io::WriteSafetensors(fs, state, std::move(items)));
  digest.name = kStateName;
  files->push_back(digest);
  RETORT_ASSIGN_OR_RETURN(digest,
                          io::DurableWrite(fs, io::Join(folder, kScalarsName), request.scalars));
  digest.name = kScalarsName;
  files->push_back(digest);
  return OkStatus();
}

Result<Manifest> WriteFiles(io::FileSystem& fs, const std::string& folder,
                            const SaveRequest& request) {
  Manifest manifest = {.step = request.step,
                       .has_state = request.has_state,
                       .progress = request.progress,
                       .environment = request.environment,
                       .files = {}};
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(io::Join(folder, kTrainerFolder)));
  RETORT_ASSIGN_OR_RETURN(manifest.files, request.write_model(folder));
  FaultPoint("checkpoint.model");
  if (request.has_state) {
    RETORT_RETURN_IF_ERROR(WriteState(fs, folder, request, &manifest.files));
  }
  FaultPoint("checkpoint.state");
  RETORT_ASSIGN_OR_RETURN(
      io::FileDigest digest,
      io::DurableWrite(fs, io::Join(folder, kTrainerStateName), request.trainer_state));
  digest.name = kTrainerStateName;
  manifest.files.push_back(digest);
  const auto by_name = [](const io::FileDigest& a, const io::FileDigest& b) {
    return a.name < b.name;
  };
  std::sort(manifest.files.begin(), manifest.files.end(), by_name);
  const std::string text = WriteManifest(manifest);
  RETORT_RETURN_IF_ERROR(io::DurableWrite(fs, io::Join(folder, kManifestName), text).status());
  RETORT_RETURN_IF_ERROR(fs.SyncFolder(folder));
  return manifest;
}

}  // namespace

Result<Found> Save(io::FileSystem& fs, const std::string& parent, const std::string& trash,
                   const SaveRequest& request) {
  const std::string folder = FolderOf(parent, request.step);
  const std::string temporary = folder + ".tmp-" + request.nonce;
  RETORT_RETURN_IF_ERROR(fs.RemoveAll(temporary));
  Result<Manifest> manifest = WriteFiles(fs, temporary, request);
  if (!manifest.ok()) {
    (void)fs.RemoveAll(temporary);  // best effort: a left-over .tmp is no error
    return manifest.status().WithContext("saving " + folder);
  }
  FaultPoint("checkpoint.written");
  RETORT_RETURN_IF_ERROR(io::MoveToTrash(fs, folder, trash).status());
  RETORT_RETURN_IF_ERROR(fs.Rename(temporary, folder));
  FaultPoint("checkpoint.renamed");
  RETORT_RETURN_IF_ERROR(fs.SyncFolder(parent));
  return Found{.folder = folder, .manifest = std::move(*manifest)};
}

Result<Manifest> Verify(io::FileSystem& fs, const std::string& folder) {
  const std::string path = io::Join(folder, kManifestName);
  RETORT_ASSIGN_OR_RETURN(const std::string text, fs.Read(path, kManifestBytes));
  RETORT_ASSIGN_OR_RETURN(Manifest manifest, ReadManifest(text, path));
  if (StepOf(io::BaseName(folder)) != manifest.step) {
    return DataLoss(path + ": step " + std::to_string(manifest.step) +
                    " is not the one of the folder's name");
  }
  for (const io::FileDigest& file : manifest.files) {
    const std::string name = io::Join(folder, file.name);
    RETORT_ASSIGN_OR_RETURN(const io::FileDigest now, io::HashFile(name));
    if (now.bytes == file.bytes && now.hash == file.hash) continue;
    return DataLoss(name + ": is not what was saved (" + std::to_string(now.bytes) +
                    " bytes, hash " + now.hash + "; the manifest says " +
                    std::to_string(file.bytes) + ", " + file.hash + ")");
  }
  return manifest;
}

Result<std::optional<Found>> FindLatest(io::FileSystem& fs, const std::string& parent,
                                        std::vector<std::string>* warnings) {
  RETORT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, Steps(fs, parent));
  for (const int64_t step : steps) {
    const std::string folder = FolderOf(parent, step);
    Result<Manifest> manifest = Verify(fs, folder);
    if (manifest.ok()) {
      return std::optional<Found>(Found{.folder = folder, .manifest = std::move(*manifest)});
    }
    if (io::IsOfTheSystem(manifest.status())) return manifest.status();
    warnings->push_back("passing over " + folder + ": " + manifest.status().message());
  }
  return std::optional<Found>();
}

namespace {

Status LoadTensor(const io::Safetensors& file, const engine::StateTensor& into,
                  const std::string& path) {
  const io::SafetensorsEntry* entry = file.Find(into.name);
  if (entry == nullptr) return DataLoss(path + ": has no tensor '" + into.name + "'");
  const std::span<const int64_t> shape(into.view.shape.data(), static_cast<size_t>(into.view.ndim));
  if (!std::equal(shape.begin(), shape.end(), entry->shape.begin(), entry->shape.end())) {
    return DataLoss(path + ": '" + into.name + "' has another shape than the optimizer's state");
  }
  const std::string_view bytes = file.bytes(*entry);
  if (bytes.size() != static_cast<size_t>(into.view.bytes()) || !into.view.contiguous()) {
    return DataLoss(path + ": '" + into.name + "' is of type " + entry->dtype +
                    ", the optimizer's state of " + std::string(DTypeName(into.view.dtype)));
  }
  if (!bytes.empty()) std::memcpy(into.view.data, bytes.data(), bytes.size());
  return OkStatus();
}

}  // namespace

Result<std::string> LoadState(const std::string& folder,
                              std::span<const engine::StateTensor> state) {
  const std::string path = io::Join(folder, kStateName);
  RETORT_ASSIGN_OR_RETURN(const io::Safetensors file, io::Safetensors::Open(path));
  if (file.entries().size() != state.size()) {
    return DataLoss(path + ": has " + std::to_string(file.entries().size()) +
                    " tensors, the optimizer keeps " + std::to_string(state.size()));
  }
  for (const engine::StateTensor& tensor : state) {
    RETORT_RETURN_IF_ERROR(LoadTensor(file, tensor, path));
  }
  return io::RealFileSystem().Read(io::Join(folder, kScalarsName), kScalarBytes);
}

Status Retain(io::FileSystem& fs, const std::string& parent, const std::string& trash, int64_t keep,
              const std::string& best) {
  RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(parent));
  std::vector<std::string> doomed;
  for (const std::string& name : names) {
    const bool temporary = name.find(".tmp-") != std::string::npos;
    if (name.starts_with(kPrefix) && temporary) doomed.push_back(io::Join(parent, name));
  }
  RETORT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, Steps(fs, parent));
  const std::string best_folder = io::Join(parent, best);
  int64_t kept = 0;
  const auto is_best = [&](int64_t step) { return FolderOf(parent, step) == best_folder; };
  const bool has_best = std::any_of(steps.begin(), steps.end(), is_best);
  for (const int64_t step : steps) {
    const bool newest = step == steps.front();
    // A place is kept for the best as long as it has not come.
    const int64_t free = keep - kept - (has_best && step > StepOf(best).value_or(-1) ? 1 : 0);
    if (newest || is_best(step) || keep == 0 || free > 0) {
      ++kept;
    } else {
      doomed.push_back(FolderOf(parent, step));
    }
  }
  for (const std::string& folder : doomed) {
    FaultPoint("checkpoint.retained");
    RETORT_ASSIGN_OR_RETURN(const std::string moved, io::MoveToTrash(fs, folder, trash));
    if (!moved.empty()) RETORT_RETURN_IF_ERROR(fs.RemoveAll(moved));
  }
  return OkStatus();
}

std::string Difference(const Environment& saved, const Environment& now) {
  std::string out;
  for (const auto& [name, value] : now) {
    const auto same_name = [&n = name](const auto& entry) { return entry.first == n; };
    const auto before = std::find_if(saved.begin(), saved.end(), same_name);
    const std::string old = before != saved.end() ? before->second : "unknown";
    if (old == value) continue;
    out += (out.empty() ? "" : "; ") + name + " was " + old + " and is " + value;
  }
  return out;
}

}  // namespace retort::checkpoint
