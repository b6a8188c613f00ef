/* SPDX-License-Identifier: Apache-2.0 */
#include "deeds.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int starts(retort_str text, const char* with) {
  const size_t n = strlen(with);
  return text.len >= n && memcmp(text.ptr, with, n) == 0;
}

retort_str text_of(const char* text) {
  retort_str out;
  out.ptr = text;
  out.len = strlen(text);
  return out;
}

static volatile int depth; /* keeps the compiler from seeing that there is no end */

static int overflow(volatile char* above) {
  volatile char here[4096];
  here[0] = above == NULL ? 1 : above[0];
  if (depth < 0) return 0;
  return overflow(here) + here[0];
}

static void crash(void) {
  volatile int* volatile nowhere = NULL;
  *nowhere = 1;
}

static void hang(void) {
  for (;;) {
    volatile int busy = 1;
    (void)busy;
  }
}

static void deadlock(void) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  pthread_mutex_lock(&mutex);
}

static void flood(const retort_call* call) {
  for (;;) call->log(call->ctx, RETORT_LOG_INFO, text_of("and another line"));
}

static void print_forever(void) {
  for (;;) {
    puts("and another line on stdout");
    fputs("and one on stderr\n", stderr);
  }
}

static void bad_bytes(void) {
  char bytes[4096];
  int fd;
  memset(bytes, 0x5a, sizeof bytes);
  for (fd = 3; fd < 64; ++fd) {
    if (write(fd, bytes, sizeof bytes) < 0) continue;
  }
  hang();
}

static void once(retort_str path) {
  char name[512];
  int fd;
  const size_t n = path.len < sizeof name - 1 ? path.len : sizeof name - 1;
  memcpy(name, path.ptr, n);
  name[n] = '\0';
  fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
  if (fd < 0) return;
  close(fd);
  crash();
}

static retort_status wait_for_cancel(const retort_call* call) {
  while (call->cancel == NULL || __atomic_load_n(call->cancel, __ATOMIC_RELAXED) == 0) usleep(1000);
  return RETORT_CANCELLED;
}

static void close_up_to(int end) {
  int fd;
  for (fd = 0; fd < end; ++fd) close(fd);
}

retort_status do_deed(const retort_call* call, retort_str text) {
  if (starts(text, "crash")) crash();
  if (starts(text, "abort")) abort();
  if (starts(text, "exit")) exit(3);
  if (starts(text, "_exit")) _exit(4);
  if (starts(text, "hang")) hang();
  if (starts(text, "deadlock")) deadlock();
  if (starts(text, "overflow")) return overflow(NULL);
  if (starts(text, "flood")) flood(call);
  if (starts(text, "print")) print_forever();
  if (starts(text, "bad_bytes")) bad_bytes();
  if (starts(text, "close_all")) close_up_to(64);
  if (starts(text, "close")) close_up_to(3);
  if (starts(text, "wait")) return wait_for_cancel(call);
  if (starts(text, "say")) {
    fputs("last words \033[31m of the plugin", stderr);
    if (starts(text, "say:crash")) crash();
  }
  if (starts(text, "once:")) {
    const retort_str path = {text.ptr + 5, text.len - 5};
    once(path);
  }
  return RETORT_OK;
}
