/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two address buses of a machine, ports and memory-mapped I/O: an ordered table of ranges, each
 * with the device that answers there.
 *
 * The table is built before the first vCPU runs and never changes afterwards, so a look-up takes no
 * lock. What moves at run time (PCI BARs) lives behind one fixed range, the PCI host's window.
 * Handlers run on vCPU threads, any number at once: a device guards its own state.
 * Where nothing answers, reads give all ones and writes go nowhere, as on real hardware.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdint.h>

/*
 * `offset` counts from the range's start. `size` is 1, 2, 4 or 8 and never crosses the range's end
 * (accesses that would are not delivered). A read returns the value in the low `size` bytes.
 */
struct bus_ops {
	uint64_t (*read)(void *device, uint64_t offset, unsigned size);
	void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
};

struct bus_range {
	uint64_t base, size;
	const struct bus_ops *ops;
	void *device;
};

#define BUS_RANGES_MAX 24

struct bus {
	unsigned count;
	struct bus_range ranges[BUS_RANGES_MAX]; /* ascending by base */
};

/* Two ranges must not overlap: that is a bug of ours. */
void bus_add(
	struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *device);

/* `data` is little-endian, as in struct kvm_run. */
void bus_read(const struct bus *bus, uint64_t address, uint8_t *data, unsigned size);
void bus_write(const struct bus *bus, uint64_t address, const uint8_t *data, unsigned size);
