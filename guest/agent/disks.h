/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's disks, without udev: found by name, serial, label or UUID from /sys and from their own first bytes.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct disk_probe {
	char type[16]; /* "ext4", "xfs", …; "unknown" for something else; "" for a blank disk */
	char label[64], uuid[40];
};

/*
 * The node in /dev that `name` means: a path under /dev, a disk's or partition's kernel name, a disk's serial,
 * SERIAL=…, LABEL=…, UUID=… or PCI=… (the address of its device). A missing node is made.
 */
int disk_find(const char *name, char *path, unsigned long size, struct error *err);

/* What is on it. */
int disk_probe(const char *path, struct disk_probe *probe, struct error *err);

/* The serial of /sys/block/NAME, or "". */
const char *disk_serial(const char *name, char *buf, unsigned long size);

/* From the first bytes, for the tests: at least DISK_PROBE_SIZE of them. */
#define DISK_PROBE_SIZE (68u << 10)
void disk_probe_bytes(const uint8_t *bytes, struct disk_probe *probe);
