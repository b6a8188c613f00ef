// SPDX-License-Identifier: Apache-2.0
#include "host/worker/worker.h"

#include <utility>

#include "core/base/clock.h"
#include "core/base/plugin_call.h"
#include "core/io/filesystem.h"
#include "host/plugin/description.h"
#include "host/worker/proxy.h"

namespace retort::host {
namespace {

constexpr uint64_t kReadStep = uint64_t{256} << 10;

// The proxies behind an entry table, so that the registry holds them like any plugin. They are made
// by CreateIsolated alone.
retort_status NoInit(const char*) { return RETORT_OK; }
uint32_t NoCount() { return 0; }
const retort_descriptor* NoDescribe(uint32_t) { return nullptr; }
retort_status NoCreate(const retort_host*, const retort_call*, const char*, const char*, retort_str,
                       retort_instance**) {
  return RETORT_UNIMPLEMENTED;
}
void Destroy(retort_instance* handle) {
  const std::unique_ptr<Proxy> owner(reinterpret_cast<Proxy*>(handle));
}
const void* GetInterface(retort_instance* handle, const char* id) {
  return reinterpret_cast<Proxy*>(handle)->Interface(id);
}

const retort_entry* ProxyEntry() {
  static constexpr retort_entry kEntry = {.struct_size = sizeof(retort_entry),
                                          .abi_minor = RETORT_ABI_MINOR,
                                          .library = "retort-worker",
                                          .version = "1",
                                          .license = "Apache-2.0",
                                          .build_info = "",
                                          .init = NoInit,
                                          .deinit = nullptr,
                                          .count = NoCount,
                                          .describe = NoDescribe,
                                          .create = NoCreate,
                                          .destroy = Destroy,
                                          .get_interface = GetInterface};
  return &kEntry;
}

std::unique_ptr<Proxy> MakeProxy(std::string_view kind, std::unique_ptr<Supervisor> supervisor) {
  if (kind == RETORT_KIND_REWARD) return MakeRewardProxy(std::move(supervisor));
  if (kind == RETORT_KIND_FILTER) return MakeFilterProxy(std::move(supervisor));
  if (kind == RETORT_KIND_SOURCE) return MakeSourceProxy(std::move(supervisor));
  return MakeGeneratorProxy(std::move(supervisor));
}

}  // namespace

bool ReadAll(const retort_reader& reader, uint64_t max_bytes, std::string* out) {
  for (;;) {
    const size_t have = out->size();
    if (have > max_bytes) return false;
    out->resize(have + kReadStep);
    const int64_t n = reader.read(reader.ctx, out->data() + have, kReadStep);
    out->resize(have + (n > 0 ? std::min(static_cast<uint64_t>(n), kReadStep) : 0));
    if (n <= 0) return n == 0;
  }
}

bool WriteAll(const retort_sink& sink, std::string_view bytes) {
  while (!bytes.empty()) {
    const int64_t n = sink.write(sink.ctx, bytes.data(), bytes.size());
    if (n <= 0 || static_cast<uint64_t>(n) > bytes.size()) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool CanIsolate(std::string_view kind) {
  return kind == RETORT_KIND_REWARD || kind == RETORT_KIND_FILTER || kind == RETORT_KIND_SOURCE ||
         kind == RETORT_KIND_GENERATOR;
}

Result<PluginInstance> CreateIsolated(const PluginRegistry& plugins, std::string_view kind,
                                      std::string_view id, std::string_view config_json,
                                      retort_key key, const WorkerOptions& options) {
  RETORT_ASSIGN_OR_RETURN(const PluginInfo* info, plugins.Find(kind, id));
  const std::string name = info->kind + " " + info->id;
  if (!CanIsolate(kind)) {
    return InvalidArgument(name +
                           ": plugins of this kind run in this process only; only rewards, "
                           "filters, sources and generators can run in a worker");
  }
  if (!info->path.starts_with('/')) {
    return FailedPrecondition(name + " is linked into this program (" + info->path +
                              "), a worker can't load it; set \"isolate\": false");
  }
  RETORT_ASSIGN_OR_RETURN(std::string config, plugins.ResolveConfig(*info, config_json));
  CreateRequest request{.path = info->path,
                        .sha256 = info->sha256,
                        .kind = info->kind,
                        .id = info->id,
                        .config = std::move(config),
                        .host_name = options.host_name,
                        .host_version = options.host_version,
                        .key = key};
  RETORT_ASSIGN_OR_RETURN(std::unique_ptr<Supervisor> supervisor,
                          Supervisor::Start(std::move(request), options));
  std::unique_ptr<Proxy> proxy = MakeProxy(kind, std::move(supervisor));
  return plugins.Adopt(info, ProxyEntry(), proxy.release()->handle());
}

Result<LibraryDescription> DescribeInWorker(const std::string& path, const WorkerOptions& options) {
  const int64_t timeout_ns = options.start_ms * 1'000'000;
  const std::string absolute = io::Absolute(path);
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<Connection> connection,
                          Connection::Open(options.program, timeout_ns));
  FrameWriter request;
  request.Text(std::string_view(absolute));
  const ExchangeLimits limits{.cancel_at_ns = RealClock().MonotonicNs() + timeout_ns};
  const Exchange exchange = connection->Ask(FrameType::kDescribe, request, limits, {});
  if (exchange.end == ExchangeEnd::kTimedOut) {
    return FailedPrecondition("plugin " + absolute + ": a worker that opened it did not answer " +
                              "within " + std::to_string(options.start_ms) +
                              " ms: it hangs while it is loaded or in its init" +
                              connection->LastOutput());
  }
  if (exchange.end != ExchangeEnd::kReply) {
    return FailedPrecondition("plugin " + absolute + ": the worker that opened it " +
                              exchange.text + connection->LastOutput());
  }
  FrameReader in(exchange.fields);
  const int32_t code = in.Int32();
  const std::string_view text = in.Text();
  if (!in.AtEnd()) return Unavailable("plugin " + absolute + ": the worker answered nonsense");
  if (code != RETORT_OK) return Status(ToCode(code), std::string(text));
  RETORT_ASSIGN_OR_RETURN(LibraryDescription description, DescriptionFromJson(text));
  RETORT_RETURN_IF_ERROR(CheckDescription(description));
  if (description.path != absolute) {
    return DataLoss("plugin " + absolute + ": the worker described " + description.path);
  }
  return description;
}

}  // namespace retort::host
