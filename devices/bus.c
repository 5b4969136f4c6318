/* SPDX-License-Identifier: Apache-2.0 */
/* Address buses: an immutable ordered table and a binary search. See bus.h. */
#include "devices/bus.h"

#include "vmm/base/log.h"

#include <string.h>

void bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *device)
{
	unsigned at = bus->count;

	BUG_ON(bus->count == BUS_RANGES_MAX || !size || base + size - 1 < base);
	while (at && bus->ranges[at - 1].base > base) {
		bus->ranges[at] = bus->ranges[at - 1];
		at--;
	}
	bus->ranges[at] =
		(struct bus_range){.base = base, .size = size, .ops = ops, .device = device};
	bus->count++;
	BUG_ON(at && bus->ranges[at - 1].base + bus->ranges[at - 1].size > base);
	BUG_ON(at + 1 < bus->count && base + size > bus->ranges[at + 1].base);
}

/* The range that holds the whole access, or NULL. */
static const struct bus_range *find(const struct bus *bus, uint64_t address, unsigned size)
{
	unsigned low = 0, high = bus->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct bus_range *r = &bus->ranges[middle];

		if (address < r->base)
			high = middle;
		else if (address - r->base >= r->size)
			low = middle + 1;
		else
			return r->size - (address - r->base) >= size ? r : NULL;
	}
	return NULL;
}

static bool valid_size(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

void bus_read(const struct bus *bus, uint64_t address, uint8_t *data, unsigned size)
{
	const struct bus_range *r = find(bus, address, size);
	uint64_t value = UINT64_MAX;

	if (r && valid_size(size))
		value = r->ops->read(r->device, address - r->base, size);
	memset(data, 0xff, size);
	memcpy(data, &value, size < 8 ? size : 8);
}

void bus_write(const struct bus *bus, uint64_t address, const uint8_t *data, unsigned size)
{
	const struct bus_range *r = find(bus, address, size);
	uint64_t value = 0;

	if (!r || !valid_size(size))
		return;
	memcpy(&value, data, size);
	r->ops->write(r->device, address - r->base, size, value);
}
