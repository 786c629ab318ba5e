/* src/io/address.h -- addresses as text: what dial.c shares with address.c. Thread: any. */
#ifndef WH_IO_ADDRESS_H
#define WH_IO_ADDRESS_H

#include "whilst/whilst.h"

/* wh__address_unix() - path, or "@name" for an abstract one. 0, -EINVAL (empty), -ENAMETOOLONG. */
int wh__address_unix(const char *path, struct wh_address *ret);

#endif
