/* Bad deeds on demand: a text begins with what the plugin is to do.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_TESTS_UNIT_WORKER_DEEDS_H_
#define RETORT_TESTS_UNIT_WORKER_DEEDS_H_

#include "retort/abi/call.h"

int starts(retort_str text, const char* with);
retort_str text_of(const char* text);

/* "crash", "abort", "exit", "_exit", "hang", "deadlock", "overflow", "flood", "print", "close_all",
 * "bad_bytes" (writes nonsense into every descriptor) never return or end the process; "wait" loops
 * until cancel and returns RETORT_CANCELLED; "close" closes 0 to 2, "say" prints a line,
 * "once:PATH" crashes if PATH isn't there, and makes it. Others: nothing. */
retort_status do_deed(const retort_call* call, retort_str text);

#endif
