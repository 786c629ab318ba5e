/* src/engine/sim_choose.h -- for tests of the inside that go through everything a power cut may leave. */
#ifndef WH_ENGINE_SIM_CHOOSE_H
#define WH_ENGINE_SIM_CHOOSE_H

#include "whilst/sim.h"

/* Instead of chance, choose(arg) decides at the next power cuts what survives: it is asked in a fixed order about each
 * size and name that is not safe whether it survives, and about each block of 4 KiB whether it does and, if not, whether its first
 * bytes do all the same (always both); so whoever counts the questions can go through all answers. NULL: chance again. What was under way counts as done, but not as safe; flushes under way count as not done. */
void wh__sim_choose(wh_sim *sim, bool (*choose)(void *arg), void *arg);

#endif
