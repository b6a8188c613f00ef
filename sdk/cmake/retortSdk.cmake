# Component sdk of the installed package; included by retortConfig.cmake, which knows the folders.
# SPDX-License-Identifier: Apache-2.0
if(NOT TARGET retort::sdk)
  add_library(retort::sdk INTERFACE IMPORTED)
  set_target_properties(retort::sdk PROPERTIES
    INTERFACE_LINK_LIBRARIES retort::abi INTERFACE_COMPILE_FEATURES "c_std_11;cxx_std_20")
  # Raw-pointer kernels with a C interface, the same that retort itself runs. Written in C++ with
  # OpenMP: a plugin in C links both runtimes too.
  add_library(retort::kernels STATIC IMPORTED)
  set_target_properties(retort::kernels PROPERTIES
    IMPORTED_LOCATION "${_retort_lib}/libretort_kernels.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_retort_include}"
    INTERFACE_LINK_LIBRARIES "stdc++;m" INTERFACE_LINK_OPTIONS "-fopenmp")
endif()
include("${CMAKE_CURRENT_LIST_DIR}/RetortPlugin.cmake")
