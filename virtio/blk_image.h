/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file behind a disk: opened, locked, measured, and found out about: which cache mode it can
 * keep, which alignment direct I/O needs, how ranges of it are made zero. It does no I/O by itself
 * after opening; the request engine (blk_io.c) puts that on its ring.
 */
#pragma once

#include "virtio/blk.h"
#include "virtio/blk_overlay.h"
#include "vmm/base/error.h"

#include <liburing.h>
#include <stdatomic.h>

/* How a range is made zero, best first; where the file cannot, the next way is taken. */
enum blk_clear {
	BLK_CLEAR_PUNCH, /* deallocate it */
	BLK_CLEAR_ZERO, /* keep it allocated, as a note in the file system or by the device itself */
	BLK_CLEAR_WRITE, /* write zeros */
	BLK_CLEAR_NONE,
};

#define BLK_ZEROS_SIZE (1u << 20) /* the most that one step of writing zeros covers */

struct blk_image {
	int fd;
	enum blk_cache cache; /* never BLK_CACHE_AUTO once open */
	bool readonly, block_device;
	bool discard;		/* may deallocate */
	uint32_t block_size;	/* logical: offsets and lengths are multiples of it */
	uint32_t memory_align;	/* of buffers' addresses, with cache=none; else 1 */
	uint32_t physical_size; /* the block that is best written whole: a hint for the guest */
	uint64_t size;
	struct blk_overlay *overlay; /* NULL: the file is the disk */
	_Atomic bool cannot
		[BLK_CLEAR_NONE]; /* ways that turned out not to work here; any queue thread */
};

/* On error nothing is left open. The message starts with "disk 'ID': ". */
int blk_image_open(struct blk_image *image, const struct blk_config *config, struct error *err);

/* Lets go of the lock too. */
void blk_image_close(struct blk_image *image);

/* The file's size now, refused when it cannot be a disk's. */
int blk_image_measure(const struct blk_image *image, uint64_t *size, struct error *err);

/* Whether a journalling ext file system on it says that it is mounted, or was when its guest ended. */
bool blk_image_is_mounted(const struct blk_image *image);

/* Make a regular file `size` bytes long. */
int blk_image_grow(const struct blk_image *image, uint64_t size, struct error *err);

/* The first way from `from` on that is not known to fail; BLK_CLEAR_NONE when there is none. */
enum blk_clear blk_image_clear_way(const struct blk_image *image, enum blk_clear from);

/* Prepare one step of clearing [offset, offset + len) of `fd`; returns how much it covers. */
uint64_t blk_image_prep_clear(
	struct io_uring_sqe *sqe, int fd, enum blk_clear way, uint64_t offset, uint64_t len);
