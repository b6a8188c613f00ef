# retort_add_plugin(NAME SOURCES a.cc ... [VERSION 1.2.0] [LICENSE SPDX] [DEPS targets...] [STATIC])
# A plugin library lib<NAME>.so in C or C++: hidden visibility, the one exported symbol by a version
# script and no undefined symbols. Works in retort's own tree (the library goes to
# RETORT_PLUGIN_DIR) and with the installed SDK after find_package(retort COMPONENTS sdk).
# STATIC: an object library instead, for target_link_libraries(program PRIVATE NAME); its entry is
# <NAME>_retort_plugin_entry_v1, for retort_context_add_static (docs/embedding.md).
# SPDX-License-Identifier: Apache-2.0
set(RETORT_PLUGIN_VERSION_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/retort_plugin.map)

function(retort_add_plugin name)
  cmake_parse_arguments(ARG "STATIC" "VERSION;LICENSE" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_SOURCES)
    message(FATAL_ERROR "retort_add_plugin(${name}): no SOURCES")
  endif()
  if(NOT ARG_VERSION)
    set(ARG_VERSION ${PROJECT_VERSION})
  endif()
  if(NOT ARG_LICENSE)
    set(ARG_LICENSE NOASSERTION)
  endif()
  if(ARG_STATIC)
    # Objects, not an archive: a linker would leave out those that only register a plugin.
    add_library(${name} OBJECT ${ARG_SOURCES})
    string(MAKE_C_IDENTIFIER ${name} identifier)
    # What is the library's own gets its name, so that several can be linked into one program.
    target_compile_definitions(${name} PRIVATE
      retort_plugin_entry_v1=${identifier}_retort_plugin_entry_v1
      RETORT_PLUGIN_NAMESPACE=library_${identifier})
  else()
    add_library(${name} MODULE ${ARG_SOURCES})
  endif()
  target_link_libraries(${name} PRIVATE retort::sdk ${ARG_DEPS} m)
  target_compile_definitions(${name} PRIVATE
    RETORT_PLUGIN_LIBRARY="${name}" RETORT_PLUGIN_VERSION="${ARG_VERSION}" RETORT_PLUGIN_LICENSE="${ARG_LICENSE}")
  set_target_properties(${name} PROPERTIES
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  if(ARG_STATIC)
    return()
  endif()
  set_target_properties(${name} PROPERTIES LINK_DEPENDS ${RETORT_PLUGIN_VERSION_SCRIPT})
  # A sanitizer's runtime lives in the program that loads the plugin.
  if(NOT RETORT_SANITIZE)
    target_link_options(${name} PRIVATE -Wl,-z,defs)
  endif()
  target_link_options(${name} PRIVATE
    -Wl,--version-script=${RETORT_PLUGIN_VERSION_SCRIPT} -Wl,--as-needed)
  if(RETORT_PLUGIN_DIR)
    set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${RETORT_PLUGIN_DIR})
  endif()
endfunction()
