// SPDX-License-Identifier: Apache-2.0
#include "core/engine/edge.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/util/Exception.h>
#include <torch/headeronly/version.h>

#include <new>
#include <string>

namespace retort::engine {

Status CurrentException(std::string_view attempt) {
  const std::string context(attempt);
  try {
    throw;
  } catch (const Error& e) {
    return e.status();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(context + ": out of memory; use shorter or smaller batches");
  } catch (const c10::Error& e) {
    return Internal(context + ": LibTorch: " + e.what_without_backtrace());
  } catch (const std::exception& e) {
    return Internal(context + ": " + e.what());
  } catch (...) {
    return Internal(context + ": an exception of unknown type");
  }
}

void SetThreads(int n_threads) { at::set_num_threads(n_threads); }

// Reading the number first makes LibTorch's one initialisation of this thread happen now, not
// later over what is set here.
ThreadScope::ThreadScope(int n_threads) : before_(at::get_num_threads()) { SetThreads(n_threads); }
ThreadScope::~ThreadScope() { SetThreads(before_); }

const char* LibTorchVersion() { return TORCH_VERSION; }

const char* CpuCapability() {
  static const std::string kCapability = at::get_cpu_capability();
  return kCapability.c_str();
}

}  // namespace retort::engine
