/* tests/conformance/errors_seen.h -- between the wrappers of the public functions and what keeps their errors.
 *
 * Written by errors_seen.py: a wrapper for each public function that gives a future or an error. It tells which function
 * gave which error; see errors_seen.c.
 */
#ifndef WH_TESTS_ERRORS_SEEN_H
#define WH_TESTS_ERRORS_SEEN_H

#include "whilst/client.h"
#include "whilst/http.h"
#include "whilst/sim.h"
#include "whilst/tls.h"
#include "whilst/whilst.h"

/* function: its index in the list of errors_seen.py. Both give back what they were given. */
wh_future seen_future(int function, wh_future f);
int64_t seen_result(int function, int64_t n);

/* Of functions that errors_seen.c wraps itself. */
extern const int seen_await, seen_poll, seen_then, seen_deadline;

#endif
