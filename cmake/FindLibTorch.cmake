# LibTorch from the torch wheel in the project's own venv: imported targets retort::c10,
# retort::torch_cpu and retort::libtorch. The wheel's TorchConfig.cmake is not used: it demands a
# CUDA toolkit.
# RETORT_VENV names the venv (set by `make setup` through the environment or -DRETORT_VENV=).
# SPDX-License-Identifier: Apache-2.0
set(RETORT_VENV "$ENV{RETORT_VENV}" CACHE PATH "venv that holds the torch wheel")
file(GLOB _torch_roots "${RETORT_VENV}/lib/python3*/site-packages/torch")
find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h PATHS ${_torch_roots} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LibTorch_C10 c10 PATHS ${_torch_roots} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_CPU torch_cpu PATHS ${_torch_roots} PATH_SUFFIXES lib NO_DEFAULT_PATH)
if(LibTorch_INCLUDE_DIR)
  file(STRINGS "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h" _torch_version
    REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
  string(REGEX MATCHALL "[0-9]+" _torch_version "${_torch_version}")
  list(JOIN _torch_version "." LibTorch_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_INCLUDE_DIR LibTorch_C10 LibTorch_CPU VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run `make setup`, or pass -DRETORT_VENV=<venv with torch==2.11.0>")

if(LibTorch_FOUND AND NOT TARGET retort::torch_cpu)
  get_filename_component(LibTorch_LIB_DIR ${LibTorch_CPU} DIRECTORY)
  get_filename_component(_site ${LibTorch_LIB_DIR}/../.. ABSOLUTE)
  # The CUDA runtime and CUPTI wheels that libtorch_cpu.so needs lie beside torch.
  file(GLOB LibTorch_CUDA_LIB_DIRS "${_site}/nvidia/cu13/lib" "${_site}/nvidia/cuda_runtime/lib" "${_site}/nvidia/cuda_cupti/lib")
  foreach(lib c10 torch_cpu)
    add_library(retort::${lib} SHARED IMPORTED)
    set_target_properties(retort::${lib} PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES ${LibTorch_INCLUDE_DIR} # SYSTEM, as targets are imported
      INTERFACE_COMPILE_DEFINITIONS "AT_PER_OPERATOR_HEADERS=1")
  endforeach()
  set_property(TARGET retort::c10 PROPERTY IMPORTED_LOCATION ${LibTorch_C10})
  set_property(TARGET retort::torch_cpu PROPERTY IMPORTED_LOCATION ${LibTorch_CPU})
  set_property(TARGET retort::torch_cpu PROPERTY INTERFACE_LINK_LIBRARIES retort::c10)
  foreach(dir ${LibTorch_LIB_DIR} ${LibTorch_CUDA_LIB_DIRS})
    set_property(TARGET retort::torch_cpu APPEND PROPERTY INTERFACE_LINK_OPTIONS
      "-Wl,-rpath-link,${dir}" "-Wl,--disable-new-dtags,-rpath,${dir}")
  endforeach()
  # For code that opens it at need (core/ops/blas.cc): headers and run path, but no link. Linked
  # as needed it would count as needed for symbols of libstdc++ that it exports.
  add_library(retort::libtorch INTERFACE IMPORTED)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    foreach(property INCLUDE_DIRECTORIES COMPILE_DEFINITIONS LINK_OPTIONS)
      get_target_property(_value retort::torch_cpu INTERFACE_${property})
      set_property(TARGET retort::libtorch PROPERTY INTERFACE_${property} "${_value}")
    endforeach()
  else()
    set_property(TARGET retort::libtorch PROPERTY INTERFACE_LINK_LIBRARIES retort::torch_cpu)
  endif()
endif()
