/* What every part of the embedding API uses: visibility, texts, the rules of all functions.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_HOST_TYPES_H_
#define RETORT_HOST_TYPES_H_

#include <stdint.h>
#include <string.h>

#include "retort/abi/types.h" /* retort_str, retort_status, retort_sink, retort_reader */

#if defined(__GNUC__)
#define RETORT_HOST_API __attribute__((visibility("default")))
#else
#define RETORT_HOST_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Rules:
 *
 *  Errors      Every function that can fail returns a retort_status; the reason stands in
 *              retort_context_error until the next call with that context or one of its handles.
 *              NULL handles and NULL required pointers are INVALID_ARGUMENT, never a crash. On
 *              failure an out handle is NULL and other outputs are unspecified.
 *  Growth      A struct that starts with struct_size (set it to sizeof) grows only at its end;
 *              members that the caller doesn't know count as zero, and the library writes nothing
 *              beyond the caller's size. Arrays of structs come with a stride in bytes. An unknown
 *              flag bit 0-15 is UNIMPLEMENTED, bits 16-31 are ignored. New functions are only
 *              added.
 *  Memory      What is passed in is borrowed for the call and copied where it is kept. What a
 *              callback or sink gets is valid during that callback. Handles are freed with their
 *              own _destroy (NULL is fine); nothing is ever freed with free().
 *  Order       Handles may be destroyed in any order, also after their context; used after it they
 *              return FAILED_PRECONDITION. A handle itself is not used after its _destroy.
 *  Threads     A context and its handles are used by one thread at a time; two contexts may be
 *              used by two threads at once. A call while another one runs with the same context
 *              (from a second thread, or out of a callback) returns FAILED_PRECONDITION and leaves
 *              retort_context_error alone; retort_cancel is the exception. Callbacks run on the
 *              thread of the call, but for `log`, and must not throw or jump out of it.
 *  Texts       (pointer, length), UTF-8, not NUL-terminated. Absent: pointer NULL.
 *  JSON in     Read under limits; unknown keys are refused with the nearest known one.
 */

/* A NUL-terminated text as a retort_str; absent for NULL. */
static inline retort_str retort_text(const char* text) {
  retort_str s;
  s.ptr = text;
  s.len = text == NULL ? 0 : (uint64_t)strlen(text);
  return s;
}

/* "OK", "INVALID_ARGUMENT" ...; "UNKNOWN" outside the list. Static. [any] since 1.0 */
RETORT_HOST_API const char* retort_status_name(retort_status status);

/* "0.1.0". Static. [any] since 1.0 */
RETORT_HOST_API const char* retort_version(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_HOST_TYPES_H_ */
