/* The embedding API of retort: everything that the program `retort` does, as one C library
 * (docs/embedding.md). C11, also usable from C++.
 *
 *   context.h    settings, plugins (files and static ones), errors, cancel
 *   model.h      open a model: tokens, chat format, generation, log-probabilities
 *   chain.h      reward and filter chains over samples or lines
 *   pipeline.h   load, plan, run a pipeline whole or stage by stage, with events
 *   command.h    the program's commands by name
 *
 * The library installs no signal handler, writes nothing to standard output or standard error,
 * never exits, and changes neither the current folder, the locale, the umask nor the
 * floating-point mode. Rules of all functions: retort/host/types.h.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_HOST_H
#define RETORT_HOST_H

#include "retort/host/chain.h"
#include "retort/host/command.h"
#include "retort/host/context.h"
#include "retort/host/model.h"
#include "retort/host/pipeline.h"
#include "retort/host/types.h"

#endif /* RETORT_HOST_H */
