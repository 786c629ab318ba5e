/* tests/fuzz/replay.c -- main() for fuzz targets built without libFuzzer: runs each file of the folders named, and each
 * cut short at a few places. A target aborts when it finds a fault. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int replay_file(const char *path)
{
	static uint8_t bytes[1 << 20];
	FILE *file = fopen(path, "rb");
	size_t len;

	if (!file)
		return -1;
	len = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	for (size_t part = 1; part <= 4; part++) {
		uint8_t *copy =
			malloc(len * part / 4 + 1); /* of its own size, so that reading past it is seen */

		if (!copy)
			return -1;
		memcpy(copy, bytes, len * part / 4);
		(void)LLVMFuzzerTestOneInput(copy, len * part / 4);
		free(copy);
	}
	return 0;
}

int main(int argc, char **argv)
{
	size_t count = 0;

	for (int i = 1; i < argc; i++) {
		DIR *folder = opendir(argv[i]);
		struct dirent *entry;

		if (!folder) {
			fprintf(stderr, "%s: no such folder\n", argv[i]);
			return 1;
		}
		while ((entry = readdir(folder))) {
			char path[4096];

			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			if (replay_file(path) < 0) {
				fprintf(stderr, "%s: cannot be read\n", path);
				return 1;
			}
			count++;
		}
		closedir(folder);
	}
	printf("%zu inputs\n", count);
	return count == 0;
}
