// The words of the plugin ABI: status codes, texts, keys, streams of bytes, and the rules that
// every other header of this folder follows. C11, libc only; little-endian 64-bit machines only.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_TYPES_H_
#define RETORT_ABI_TYPES_H_

#include <stddef.h>
#include <stdint.h>

/*
 * Rules, by number (docs/abi.md says why; the conformance kit has a check for each):
 *
 *  R1  One exported symbol per major version: retort_plugin_entry_v1.
 *  R2  A table of functions is fetched by an id with a revision ("retort.reward/1") and is frozen
 *      once stable. Feature test: "the table is there", never a comparison of version numbers.
 *      Revision 0 is a draft: the host takes such a table only from a library whose
 *      entry->abi_minor equals its own RETORT_ABI_MINOR.
 *  R3  A struct that starts with struct_size grows only at its end; absent means zero. An out
 *      struct is written only within the size its owner gave. No implicit padding. Arrays of
 *      structs carry a stride in bytes and are walked by it. Other structs never change.
 *  R4  A callee refuses a struct only if it is smaller than in the first version or lacks a member
 *      that it truly needs. An unknown enum value or flag bit 0-15: RETORT_UNIMPLEMENTED; bits
 *      16-31 are hints and are ignored when unknown.
 *  R5  Fixed-width integers only. Texts are retort_str; ids and names are NUL-terminated. Tables
 *      and specs that a plugin returns live as long as its instance.
 *  R6  Borrow, don't own: inputs and scratch are valid until the call returns. Outputs go into the
 *      host's memory or through a sink that copies.
 *  R7  A failure of one sample is data (its status); a failure of a call is its retort_status with
 *      a text through call->error. No exception, exit, abort, longjmp, signal handler, or change of
 *      locale, floating-point mode, current folder or umask crosses the boundary.
 *  R8  Threads: the tag of each function, below.
 *  R9  All randomness comes from call->key; mix in a uid, index or row. Time only as a deadline.
 *  R10 Nothing is ever unloaded.
 *
 * Thread tags:
 *  [serial]      one call per instance at a time, from any thread
 *  [concurrent]  any number at once, where the table's CONCURRENT flag says so
 *  [control]     create, destroy, get_interface, save, load, merge: overlaps nothing on the
 *                instance
 *  [any]         from any thread, also several at once; a callback: while its call runs
 *
 * What holds for every member unless its own comment says otherwise:
 *  - A pointer is not NULL. What it points to belongs to whoever passed it and is valid until the
 *    call (for a callback: the callback) returns; whoever needs it longer copies it.
 *  - A table that a plugin returns, with all that hangs on it, belongs to the plugin and stays as
 *    it is until destroy. Its functions are [serial].
 *  - Counts may be 0; the array beside a count of 0 may be NULL.
 *  - "out" members are written by the callee; the host reads them only after RETORT_OK.
 *  - `flags` of which none exist yet are 0.
 *  - A function of a plugin gives RETORT_OK, or any other code after call->error. The codes listed
 *    with a function are those that it should tell apart; beside them, always: CANCELLED (it saw
 *    call->cancel), DEADLINE_EXCEEDED (call->deadline_ns has passed), RESOURCE_EXHAUSTED (memory,
 *    scratch), UNIMPLEMENTED (R4), ABORTED (a sink or reader failed), INTERNAL (its own bug).
 */

#ifdef __cplusplus
extern "C" {
#endif

/* Result of a call. Numerically the canonical codes of gRPC and absl. */
typedef int32_t retort_status;

#define RETORT_OK 0
#define RETORT_CANCELLED 1         /* call->cancel was seen */
#define RETORT_UNKNOWN 2           /* none of the others fits */
#define RETORT_INVALID_ARGUMENT 3  /* the caller's mistake, whatever the state */
#define RETORT_DEADLINE_EXCEEDED 4 /* call->deadline_ns, or a deadline of the callee's own */
#define RETORT_NOT_FOUND 5         /* a file, a key, an id */
#define RETORT_ALREADY_EXISTS 6
#define RETORT_PERMISSION_DENIED 7
#define RETORT_RESOURCE_EXHAUSTED 8  /* memory, scratch, quota */
#define RETORT_FAILED_PRECONDITION 9 /* the state must change first, trying again won't help */
#define RETORT_ABORTED 10            /* a sink or reader failed; its owner has the reason */
#define RETORT_OUT_OF_RANGE 11       /* an index past the end */
#define RETORT_UNIMPLEMENTED 12      /* unknown enum value, flag, dtype or device */
#define RETORT_INTERNAL 13           /* a bug of the callee */
#define RETORT_UNAVAILABLE 14        /* may work when tried again */
#define RETORT_DATA_LOSS 15          /* corrupt input or non-finite numbers */
#define RETORT_UNAUTHENTICATED 16    /* credentials are missing or wrong */

/* UTF-8, may contain NUL, not NUL-terminated, borrowed. ptr NULL: absent (len is then 0). */
typedef struct retort_str {
  const char* ptr;
  uint64_t len; /* bytes */
} retort_str;

/* A plugin's object: owned by the plugin, opaque to the host. Cast to and from it; never define
 * it, so that several plugins can be linked into one program. */
typedef struct retort_instance retort_instance;

/* Key of a counter-based generator (Philox). Equal for all calls of one (seed, stage, step,
 * chain entry), so a plugin mixes in what tells its items apart. */
typedef struct retort_key {
  uint64_t hi; /* the upper 64 bits */
  uint64_t lo;
} retort_key;

/* Takes bytes; copies them before returning. [serial], from the call's thread. */
typedef struct retort_sink {
  void* ctx; /* first argument of write */
  /* Bytes taken, 1..n (short counts are legal: call again with the rest); n 0 gives 0.
   * Negative: the host's failure, already reported; return RETORT_ABORTED. */
  int64_t (*write)(void* ctx, const void* data, uint64_t n);
} retort_sink;

/* Gives bytes. [serial], from the call's thread. */
typedef struct retort_reader {
  void* ctx; /* first argument of read */
  /* Bytes given, 1..n (short counts are legal); 0: the end. Negative: as for a sink. */
  int64_t (*read)(void* ctx, void* data, uint64_t n);
} retort_reader;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_TYPES_H_ */
