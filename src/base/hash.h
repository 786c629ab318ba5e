/* src/base/hash.h -- XXH3 by the widest instructions that this processor has.
 *
 * The library that distributions build uses what every processor of the architecture has: on x86-64 that is a quarter of what AVX2
 * or AVX-512 do for whatever is longer than 240 bytes. Where the library chooses at run time, it is asked to. The values
 * are the same. Depends on: libxxhash. Thread: any.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <xxhash.h>

#include "config.h"
#if WH_HAVE_XXHASH_DISPATCH
#include <xxh_x86dispatch.h>
#endif

#endif
