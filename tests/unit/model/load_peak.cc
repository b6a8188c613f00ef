// Loads all tensors of a model in a storage and prints: bytes of the weights, of the greatest one,
// and by how many the process grew at most meanwhile (VmHWM beyond the VmRSS before).
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "core/model/params.h"
#include "tests/unit/model/tensor_graph.h"

namespace retort::model {
namespace {

int64_t StatusBytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return -1;
}

Status Run(const std::string& path, const std::string& storage) {
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<Source> source, Source::Open(path));
  RETORT_ASSIGN_OR_RETURN(const Storage parsed, ParseStorage(storage));
  const graph::Graph graph = TensorGraph(*source);
  const StoragePlan plan = PlanStorage(graph, {.storage = parsed}, source.get());
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts anew
  const int64_t before = StatusBytes("VmRSS");
  RETORT_ASSIGN_OR_RETURN(const ParamStore store, ParamStore::Allocate(graph, plan.dtypes));
  RETORT_RETURN_IF_ERROR(LoadParams(*source, graph, store, 2));
  int64_t greatest = 0;
  for (size_t i = 0; i < graph.params.size(); ++i) {
    greatest = std::max(greatest, StoredBytes(plan.dtypes[i], graph.params[i].shape));
  }
  std::printf("%lld %lld %lld\n", static_cast<long long>(store.bytes()),
              static_cast<long long>(greatest),
              static_cast<long long>(StatusBytes("VmHWM") - before));
  return OkStatus();
}

}  // namespace
}  // namespace retort::model

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const retort::Status status = retort::model::Run(argv[1], argv[2]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
