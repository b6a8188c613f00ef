# Component host of the installed package; included by retortConfig.cmake, which knows the folders.
# SPDX-License-Identifier: Apache-2.0
if(NOT TARGET retort::host)
  add_library(retort::host SHARED IMPORTED)
  set_target_properties(retort::host PROPERTIES
    IMPORTED_LOCATION "${PACKAGE_PREFIX_DIR}/lib/libretort.so"
    INTERFACE_LINK_LIBRARIES retort::abi INTERFACE_COMPILE_FEATURES c_std_11)
endif()
