/* src/io/beneath.h -- opens a file below a folder that nothing leads out of. */
#ifndef WH_IO_BENEATH_H
#define WH_IO_BENEATH_H

#include "whilst/whilst.h"

/* wh__open_beneath() - open path, relative to folder, for reading: neither "..", nor a symbolic link, nor a race with a rename leads
 * out of it; links within are followed; openat2(2), RESOLVE_BENEATH. "": the folder itself. *ret_stat: what it is. n = a descriptor, or
 * -errno: -EXDEV where it would lead out.
 * simulated  NULL, or a loop of a simulated machine, whose descriptor folder is; then on its thread only.
 * Thread: any. It may wait for the disk. Source: openat2(2), path_resolution(7). */
int64_t wh__open_beneath(wh_loop *simulated, int folder, const char *path, struct wh_stat *ret_stat);

/* loop, if its machine is simulated; else NULL. */
wh_loop *wh__beneath_simulated(wh_loop *loop);

/* The same close for both kinds, of a descriptor on which nothing was started. */
void wh__close_beneath(wh_loop *simulated, int fd);

#endif
