/* src/cli/network.c -- file systems whose files lie elsewhere, or in another process: told by statfs(2).
 *
 * Thread: any.
 */
#include <sys/vfs.h>

#include "cli/cli.h"

static const struct {
	unsigned type; /* statfs(2), linux/magic.h */
	const char *name;
} network[] = {
	{0x6969, "NFS"},
	{0xff534d42, "CIFS"},
	{0xfe534d42, "SMB2"},
	{0x517b, "SMB"},
	{0x01021997, "9p"},
	{0x65735546, "FUSE"},
	{0x00c36400, "Ceph"},
	{0x5346414f, "AFS"},
	{0x0bd00bd0, "Lustre"},
	{0x47504653, "GPFS"},
	{0x564c, "NCP"},
	{0x73757245, "Coda"},
	{0x786f4256, "VirtualBox shared folder"},
};

const char *cli_network_file_system(const char *path)
{
	struct statfs fs;
	if (statfs(path, &fs) != 0)
		return NULL;
	for (size_t i = 0; i < sizeof network / sizeof *network; i++)
		if (network[i].type == (unsigned)fs.f_type)
			return network[i].name;
	return NULL;
}
