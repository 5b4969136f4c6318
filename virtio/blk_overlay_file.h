/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An overlay's file as bytes: its header, its bitmap and its base, each checked as it is read. blk_overlay.h has the form.
 * All wait for the disk. Thread-safe.
 */
#pragma once

#include "virtio/blk_overlay.h"

#define OVERLAY_PAGE	     4096u /* the header, and what is written of the bitmap at once */
#define OVERLAY_BITMAP_BYTES (BLK_OVERLAY_DATA - BLK_OVERLAY_BITMAP)

/* What the header says, and is checked. */
struct overlay_header {
	uint64_t base_size, identity[2];
	char base[BLK_OVERLAY_NAME_SIZE];
};

/* 0 or a negative errno; a file that ends before is -EIO. */
int overlay_read(int fd, void *data, uint64_t len, uint64_t offset);
int overlay_write(int fd, const void *data, uint64_t len, uint64_t offset);

int overlay_load_header(int fd, const char *path, struct overlay_header *header, struct error *err);

/* The disk's size, as the file's length has it. */
int overlay_size(int fd, uint64_t base_size, uint64_t *size, struct error *err);

uint64_t overlay_clusters(uint64_t size);
/* Into the first `overlay_bitmap_used(size)` of OVERLAY_BITMAP_BYTES, aligned to a page. */
uint64_t overlay_bitmap_used(uint64_t size);
int overlay_load_bitmap(
	int fd, const char *path, uint64_t size, uint8_t *bitmap, struct error *err);
/* Room for one, zero, and there as far as it is used; MAP_FAILED: no memory. */
void *overlay_map_bitmap(void);

/* Opened to be read, and locked shared. */
int overlay_open_base(const char *base, int *fd, uint64_t *size, struct error *err);
/* It is what the overlay was made on. */
int overlay_check_base(const struct overlay_header *header, const char *path, int base_fd,
	const char *base, uint64_t base_size, struct error *err);
