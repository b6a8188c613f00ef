# Writes OUTPUT, a C++ source with the texts under FOLDER whose names match PATTERN as the table of
# HEADER: structs of TYPE, given by a function TYPEs().
#   cmake -DFOLDER=sdk/templates -DPATTERN=*.in -DTYPE=PluginTemplate
#     -DHEADER=host/commands/plugin_templates.h -DOUTPUT=x.cc -P THIS
# SPDX-License-Identifier: Apache-2.0
file(GLOB_RECURSE names RELATIVE ${FOLDER} ${FOLDER}/${PATTERN})
list(SORT names)
string(REPEAT "." 128 dots)
set(table "")
foreach(name ${names})
  # As bytes: no escaping rule, raw string or maximum literal length gets in the way.
  file(READ ${FOLDER}/${name} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${bytes}")
  # 32 bytes a line; the compiler joins them.
  string(REGEX REPLACE "(${dots})" "\\1\"\n\"" bytes "${bytes}")
  string(APPEND table "{\"${name}\",\n\"${bytes}\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"${HEADER}\"\nnamespace retort::host {
namespace {\nconstexpr ${TYPE} kTable[] = {\n${table}};\n}
std::span<const ${TYPE}> ${TYPE}s() { return kTable; }\n}\n")
