// retort_rewrite_model IN OUT [f32|bf16]: reads a model and writes it as an HF folder, with a
// graph that is nothing but its tensors. A tool for tests/peers.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string_view>

#include "core/model/params.h"
#include "tests/unit/model/tensor_graph.h"

namespace {

retort::Status Rewrite(const char* from, const char* to, retort::DType store) {
  using namespace retort;
  RETORT_ASSIGN_OR_RETURN(const auto source, model::Source::Open(from));
  const graph::Graph graph = model::TensorGraph(*source);
  RETORT_ASSIGN_OR_RETURN(const model::ParamStore params, model::ParamStore::Allocate(graph));
  RETORT_RETURN_IF_ERROR(model::LoadParams(*source, graph, params));
  return model::WriteModelFolder(io::RealFileSystem(), to, model::TextsOf(*source), graph,
                                 params.views(), store)
      .status();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const bool bf16 = argc > 3 && std::string_view(argv[3]) == "bf16";
  const retort::Status status =
      Rewrite(argv[1], argv[2], bf16 ? retort::DType::kBF16 : retort::DType::kF32);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
