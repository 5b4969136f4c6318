/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.2 §5.2): a raw file or block device as a disk, through io_uring on the queue's
 * own thread. See blk.c for how requests live and what each cache mode promises.
 */
#pragma once

#include "virtio/blk_dirty.h"
#include "virtio/device.h"
#include "vmm/base/histogram.h"

enum blk_cache {
	BLK_CACHE_AUTO,	     /* none where the file allows O_DIRECT, else writeback */
	BLK_CACHE_NONE,	     /* O_DIRECT; FLUSH is fdatasync */
	BLK_CACHE_WRITEBACK, /* host page cache; FLUSH is fdatasync */
	BLK_CACHE_WRITETHROUGH, /* host page cache, every write is stable (RWF_DSYNC) before it completes */
};

#define BLK_QUEUES_MAX 16
#define BLK_SERIAL_LEN 20

struct blk_config {
	const char *id;
	const char *path; /* regular file or block device, size a multiple of 512 */
	const char
		*base; /* `path` is an overlay on it, made when it is missing; NULL: it is none */
	const char *serial; /* at most 20 bytes; NULL: the id */
	enum blk_cache cache;
	unsigned queues;
	bool readonly, discard;
	bool impatient;	    /* say at once that the file is in use: others wait for this thread */
	uint64_t iops, bps; /* 0: no limit */
};

/* Opens and locks the file (OFD lock: shared when readonly, else exclusive), makes the device. Main thread.
 * That a file is in use is said after a second of trying, unless impatient: a monitor killed just now may still be letting go.
 * Free it with virtio_device_destroy(). The config and its strings are not kept. */
int blk_create(const struct blk_config *config, const struct guest_memory *memory,
	struct loop *main_loop, struct virtio_device **out, struct error *err);

/* In bytes, as the guest sees it. Any thread. */
uint64_t blk_size(struct virtio_device *dev);

/* What the cache mode is: never BLK_CACHE_AUTO. Any thread. */
enum blk_cache blk_cache_mode(struct virtio_device *dev);

/*
 * Make the file *size bytes long, where that is not 0, take up its present size (a volume may have been
 * resized by others) and tell the guest. A disk never shrinks. *size becomes what it is. Main thread.
 */
int blk_resize(struct virtio_device *dev, uint64_t *size, struct error *err);

/*
 * Make all that has completed stable, as the guest's flush would, and call `done` on the main loop, later: 0 or a negative errno. A
 * failure is the guest's too: none of its flushes is confirmed any more. A disk that is destroyed meanwhile: -ECANCELED. Main thread.
 */
void blk_flush(struct virtio_device *dev,
	void (*done)(struct virtio_device *dev, int ret, void *arg), void *arg);

/*
 * Whether the disk itself says that it is mounted: an ext3 or ext4 file system that fills it notes so. False may only mean that
 * it cannot say. Main thread.
 */
bool blk_is_mounted(struct virtio_device *dev);

/* Change the limits; 0 lifts one. Any thread. */
void blk_set_limits(struct virtio_device *dev, uint64_t iops, uint64_t bps);

/* What the disk has done since it was created; errors are requests that the guest saw fail. */
enum blk_counter {
	BLK_READS,
	BLK_READ_BYTES,
	BLK_WRITES,
	BLK_WRITTEN_BYTES,
	BLK_FLUSHES,
	BLK_DISCARDS,
	BLK_ZEROES,
	BLK_ERRORS,
	BLK_PARKED, /* requests held back by the limits */
	BLK_COUNTERS,
};

/* Sums over all queues. Any thread; each figure is right, the set is not one moment's. */
void blk_get_counters(struct virtio_device *dev, uint64_t counters[BLK_COUNTERS]);

/* Requests that the disk has taken and not answered yet, those that the limits hold back included. Any thread. */
uint64_t blk_in_flight(struct virtio_device *dev);

enum blk_latency { BLK_LATENCY_READ, BLK_LATENCY_WRITE, BLK_LATENCY_FLUSH, BLK_LATENCIES };

/*
 * Add how long requests took that succeeded, over all queues: from the round of the queue's thread that took them to the one that
 * answered them. Any thread.
 */
void blk_add_latency(struct virtio_device *dev, enum blk_latency kind, struct histogram_sums *sums);

/*
 * Which blocks change, from now on: each request that completes after this has returned is marked (blk_dirty.h). Tracked already:
 * nothing changes. Main thread.
 */
int blk_track(struct virtio_device *dev, struct error *err);
void blk_untrack(struct virtio_device *dev);
struct blk_dirty *blk_dirty(struct virtio_device *dev);

/* What holds the disk's content, for who copies it: the device's own descriptor, perhaps of direct I/O. Its offset is nobody's. */
struct blk_source {
	int fd;
	bool block_device;
	const struct blk_overlay *overlay; /* NULL, or how it is read in place of `fd` */
};
struct blk_source blk_source(struct virtio_device *dev);
