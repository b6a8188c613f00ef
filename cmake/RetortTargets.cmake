# How a part of retort becomes a target: one set of flags, one way to declare a library or a test.
# SPDX-License-Identifier: Apache-2.0

add_library(retort_flags INTERFACE)
target_compile_features(retort_flags INTERFACE cxx_std_20 c_std_11)
target_include_directories(retort_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(retort_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow $<$<BOOL:${RETORT_WERROR}>:-Werror>)
if(RETORT_SANITIZE)
  target_compile_options(retort_flags INTERFACE -fsanitize=${RETORT_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(retort_flags INTERFACE -fsanitize=${RETORT_SANITIZE})
endif()

# retort_library(NAME SOURCES a.cc ... [DEPS targets...] [PRIVATE_DEPS targets...])
# A static, position-independent part of core or host; includes are written from the source root.
function(retort_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  add_library(retort::${name} ALIAS ${name})
  set_target_properties(${name} PROPERTIES
    POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_link_libraries(${name} PUBLIC retort_flags ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
endfunction()

# retort_test(NAME SOURCES a.cc ... DEPS targets... [ENV K=V ...] [LABELS ...] [TIMEOUT s])
# A GoogleTest program, run as one ctest test. RETORT_SOURCE_DIR is the repository's root.
function(retort_test name)
  if(NOT RETORT_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;ENV;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE retort_flags ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE RETORT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  # Tests wait for what they test, not for their own code: a fifth less time to compile.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}" ENVIRONMENT "${ARG_ENV}")
endfunction()
