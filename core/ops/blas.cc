// SPDX-License-Identifier: Apache-2.0
#include "core/ops/blas.h"

#include <atomic>

#include "core/base/status.h"

#if defined(__x86_64__)

#include <dlfcn.h>

namespace retort::ops {
namespace {

constexpr const char* kLibrary = "libtorch_cpu.so";  // by the run path of this library

struct LibTorch {
  Blas blas;
  void (*set_num_threads)(int) = nullptr;     // at::, of the calling thread
  int (*get_num_threads)() = nullptr;         // at::, likewise
  std::string (*cpu_capability)() = nullptr;  // at::
};

std::atomic<const LibTorch*> opened{nullptr};
thread_local int wanted_threads = 0;   // of this thread; 0: not ours to say
thread_local int callers_threads = 1;  // before we set any
thread_local int applied_threads = 0;  // what LibTorch was told last

template <class Function>
void Find(void* library, const char* symbol, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, symbol));
  if (*out != nullptr) return;
  throw Error(FailedPrecondition(std::string(kLibrary) + " lacks " + symbol +
                                 ": it is not the version that this build was made for"));
}

LibTorch Open() {
  // Lazily bound: it has 10^5 symbols, of which we call five.
  void* library = dlopen(kLibrary, RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) {
    throw Error(FailedPrecondition("cannot open LibTorch: " + std::string(dlerror()) +
                                   "; `make setup` puts it in place"));
  }
  LibTorch found;
  Find(library, "sgemm_", &found.blas.sgemm);
  Find(library, "dgemm_", &found.blas.dgemm);
  Find(library, "_ZN2at15set_num_threadsEi", &found.set_num_threads);
  Find(library, "_ZN2at15get_num_threadsEv", &found.get_num_threads);
  Find(library, "_ZN2at18get_cpu_capabilityB5cxx11Ev", &found.cpu_capability);
  return found;
}

// Reading first makes LibTorch's one initialisation of this thread happen now, not over what is
// set.
void Apply(const LibTorch& libtorch) {
  if (applied_threads == wanted_threads) return;
  const int before = libtorch.get_num_threads();
  if (applied_threads == 0) callers_threads = before;
  libtorch.set_num_threads(wanted_threads > 0 ? wanted_threads : callers_threads);
  applied_threads = wanted_threads;
}

const LibTorch& TheLibTorch() {
  static const LibTorch libtorch = Open();
  opened.store(&libtorch, std::memory_order_release);
  Apply(libtorch);
  return libtorch;
}

}  // namespace

const Blas& OpenBlas() { return TheLibTorch().blas; }

void SetBlasThreads(int n_threads) {
  wanted_threads = n_threads;
  const LibTorch* libtorch = opened.load(std::memory_order_acquire);
  if (libtorch != nullptr) Apply(*libtorch);
}

int BlasThreads() { return wanted_threads; }

std::string LibTorchCpuCapability() { return TheLibTorch().cpu_capability(); }

}  // namespace retort::ops

#else

#include <ATen/Parallel.h>
#include <ATen/Version.h>

namespace retort::ops {

const Blas& OpenBlas() { throw Error(Unimplemented("BLAS is called directly on x86-64 only")); }
void SetBlasThreads(int n_threads) {
  if (n_threads > 0) at::set_num_threads(n_threads);
}
int BlasThreads() { return at::get_num_threads(); }
std::string LibTorchCpuCapability() { return at::get_cpu_capability(); }

}  // namespace retort::ops

#endif
