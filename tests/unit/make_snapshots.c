/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make_snapshots DIR COUNT: a chain of snapshots s0, s1, ... in the folder DIR, each with some pages that its parent has not,
 * and `direct`, a full one of the same memory as the last. For tests that have no guest to take them of.
 */
#include "tests/unit/runner.h"
#include "tests/unit/snapshot_files.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGES 2048

static const char *folder;
static unsigned count;

/* A case of check's, whose assertions the helpers have. */
START_TEST(the_chain_is_made)
{
	struct memory_layout layout = {.region_count = 1, .regions = {{0, PAGES * 4096}}};
	uint8_t *memory = pages_map(PAGES);
	char path[512], parent[512] = "";

	for (uint64_t i = 0; i < PAGES; i++)
		page_fill(memory + i * 4096, i / 100 % 3 ? i : 0);
	for (unsigned n = 0; n < count; n++) {
		uint64_t which[PAGES / 64] = {0};

		for (uint64_t i = n; n && i < PAGES; i += 97) {
			page_fill(memory + i * 4096, i % 5 ? i * n : 0);
			which[i / 64] |= 1ull << (i % 64);
		}
		snprintf(path, sizeof(path), "%s/s%u", folder, n);
		snapshot_write(path, &layout, memory, n % 3 == 2 ? SNAPSHOT_ZSTD : SNAPSHOT_PLAIN,
			n ? parent : NULL, n ? which : NULL);
		snprintf(parent, sizeof(parent), "%s", path);
	}
	snprintf(path, sizeof(path), "%s/direct", folder);
	snapshot_write(path, &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
}
END_TEST

int main(int argc, char **argv)
{
	TCase *tc = tcase_create("make");

	if (argc != 3) {
		fprintf(stderr, "Usage: make_snapshots DIR COUNT\n");
		return 2;
	}
	folder = argv[1];
	count = (unsigned)atoi(argv[2]);
	tcase_add_test(tc, the_chain_is_made);
	return run_tests("make_snapshots", tc, NULL);
}
