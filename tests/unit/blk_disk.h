/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-blk disk under test, driven as a guest drives it, on a real file in a scratch directory below
 * the current one (so that cache=none meets the file system that the build lies on). One disk at a
 * time: `guest` is its driver, `disk_path` its file. Everything asserts: it returns when it worked.
 */
#pragma once

#include "tests/unit/driver.h"
#include "virtio/blk.h"

#include "vmm/base/util.h"

#include <check.h>
#include <linux/virtio_blk.h>

#define DISK_SIZE    MIB(4)
#define DISK_SECTORS (DISK_SIZE / 512)
#define DISK_RAM     MIB(32)

extern struct driver guest;
extern char disk_path[64];

/* Every cache mode that can be asked for; those of the same index run the same test. */
#define DISK_CACHES 4
extern const enum blk_cache disk_caches[DISK_CACHES];

/* A request of the plain layout: header, data, status, in guest RAM. */
struct disk_io {
	uint64_t header, data, status; /* in guest RAM */
	uint32_t len;
};

/* The suite's main(): `add` puts the tests into the case. Returns the exit status. */
int disk_test_main(const char *name, void (*add)(TCase *tc));

/* cache=none works in the scratch directory. Leaves a file of 4096 bytes. */
bool disk_direct_works(void);

/* What byte `at` of a file made by disk_make_file() holds. */
uint8_t disk_pattern(uint64_t at);
void disk_make_file(uint64_t size);
void disk_file_read(uint64_t at, void *data, size_t len);
void disk_fill(uint8_t *data, size_t len, uint64_t seed);
void disk_expect_pattern(const uint8_t *data, uint64_t at, size_t len);

/* id "data", the file, one queue, discard. */
struct blk_config disk_defaults(void);
void disk_start(const struct blk_config *config, uint64_t features);
/* The usual: a 4 MiB file full of the pattern, every feature. */
void disk_start_default(enum blk_cache cache);
/* Not broken, and gone. */
void disk_end(void);

void disk_set_header(uint64_t gpa, uint32_t type, uint64_t sector);
struct disk_io disk_make_io(
	uint32_t type, uint64_t sector, uint32_t len, uint32_t align, uint32_t misalign);
uint8_t *disk_data(const struct disk_io *io);
uint8_t disk_status(const struct disk_io *io);
/* Make it available / and wait for it; its status. `writable`: the device writes the data. */
uint16_t disk_add(struct driver_queue *q, const struct disk_io *io, bool writable);
uint8_t disk_run(const struct disk_io *io, bool writable);
uint8_t disk_request(uint32_t type, uint64_t sector, uint32_t len);
/* Write, look at the file, read back. */
void disk_round_trip(uint64_t sector, uint32_t len, uint32_t misalign);
