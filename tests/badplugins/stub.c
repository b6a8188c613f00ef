// A library for plugins to be linked against where they must not be. Says so if it runs.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

int retort_test_stub(void);
__attribute__((visibility("default"))) int retort_test_stub(void) { abort(); }
