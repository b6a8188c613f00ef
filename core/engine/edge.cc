// SPDX-License-Identifier: Apache-2.0
#include "core/engine/edge.h"

#include <torch/headeronly/version.h>

#include <new>
#include <string>

#include "core/ops/blas.h"

#if !defined(__x86_64__)
#include <c10/util/Exception.h>
#endif

namespace retort::engine {

Status CurrentException(std::string_view attempt) {
  const std::string context(attempt);
  try {
    throw;
  } catch (const Error& e) {
    return e.status();
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(context + ": out of memory; use shorter or smaller batches");
#if !defined(__x86_64__)  // there it is called through BLAS's C interface alone
  } catch (const c10::Error& e) {
    return Internal(context + ": LibTorch: " + e.what_without_backtrace());
#endif
  } catch (const std::exception& e) {
    return Internal(context + ": " + e.what());
  } catch (...) {
    return Internal(context + ": an exception of unknown type");
  }
}

void SetThreads(int n_threads) { ops::SetBlasThreads(n_threads); }

ThreadScope::ThreadScope(int n_threads) : before_(ops::BlasThreads()) { SetThreads(n_threads); }
ThreadScope::~ThreadScope() { SetThreads(before_); }

const char* LibTorchVersion() { return TORCH_VERSION; }

const char* CpuCapability() {
  static const std::string kCapability = ops::LibTorchCpuCapability();
  return kCapability.c_str();
}

}  // namespace retort::engine
