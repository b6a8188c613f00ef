// SPDX-License-Identifier: Apache-2.0
#include "host/session/op_factory.h"

#include <memory>
#include <string>
#include <utility>

namespace retort::host {
namespace {

class PluginOp final : public graph::OpHandle {
 public:
  PluginOp(PluginInstance instance, const retort_op_v1* table)
      : instance_(std::move(instance)), table_(table) {}
  const retort_op_v1& table() const override { return *table_; }
  retort_instance* instance() const override { return instance_.get(); }

 private:
  PluginInstance instance_;
  const retort_op_v1* table_;
};

}  // namespace

graph::OpFactory MakeOpFactory(const PluginRegistry& plugins) {
  return [&plugins](const std::string& id,
                    const std::string& attributes) -> Result<std::unique_ptr<graph::OpHandle>> {
    RETORT_ASSIGN_OR_RETURN(PluginInstance instance,
                            plugins.Create(RETORT_KIND_OP, id, attributes, retort_key{}));
    const auto* table = static_cast<const retort_op_v1*>(instance.interface(RETORT_OP_INTERFACE));
    if (table == nullptr) return FailedPrecondition("it has no " RETORT_OP_INTERFACE);
    return std::unique_ptr<graph::OpHandle>(std::make_unique<PluginOp>(std::move(instance), table));
  };
}

}  // namespace retort::host
