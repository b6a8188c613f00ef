// Stands for LibTorch where a library is linked against it.
// SPDX-License-Identifier: Apache-2.0
int retort_test_stub(void);
int retort_test_stub(void) { return 7; }
