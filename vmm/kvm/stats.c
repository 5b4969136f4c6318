/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading KVM's binary counters. See stats.h.
 *
 * The file begins with a header, which says where an array of descriptors and the block of values are; a descriptor
 * has a fixed part, and a name as long as the header says. Values are 64 bits each.
 */
#include "vmm/kvm/stats.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATS_MAX 4096 /* far more than there are: a bound for what is allocated */

static int read_at(int fd, void *to, size_t size, uint64_t offset)
{
	ssize_t n = pread(fd, to, size, (off_t)offset);

	if (n < 0)
		return -errno;
	return n == (ssize_t)size ? 0 : -EIO;
}

static void enter(struct kvm_stats_map *map, const struct kvm_stats_desc *desc,
	const char *const *names, unsigned count)
{
	unsigned index = desc->offset / sizeof(uint64_t);

	if (desc->size != 1 || index >= KVM_STATS_VALUES_MAX)
		return; /* a histogram */
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(desc->name, names[i]) != 0)
			continue;
		map->index[i] = (uint16_t)index;
		map->span = index >= map->span ? index + 1 : map->span;
	}
}

int kvm_stats_find(int fd, const char *const *names, unsigned count, struct kvm_stats_map *map)
{
	_cleanup_free_ char *descs = NULL;
	struct kvm_stats_header header;
	size_t step;
	int ret;

	BUG_ON(count > KVM_STATS_WANTED_MAX);
	ret = read_at(fd, &header, sizeof(header), 0);
	if (ret < 0)
		return ret;
	if (!header.name_size || header.name_size > KIB(4) || header.num_desc > STATS_MAX)
		return -EIO;
	step = sizeof(struct kvm_stats_desc) + header.name_size;
	descs = malloc(header.num_desc * step);
	if (!descs)
		return -ENOMEM;
	ret = read_at(fd, descs, header.num_desc * step, header.desc_offset);
	if (ret < 0)
		return ret;
	map->offset = header.data_offset;
	map->span = 0;
	for (unsigned i = 0; i < KVM_STATS_WANTED_MAX; i++)
		map->index[i] = KVM_STATS_VALUES_MAX;
	for (uint32_t i = 0; i < header.num_desc; i++) {
		struct kvm_stats_desc *desc = (void *)(descs + i * step);

		desc->name[header.name_size - 1] = '\0';
		enter(map, desc, names, count);
	}
	return 0;
}

int kvm_stats_add(int fd, const struct kvm_stats_map *map, unsigned count, uint64_t *sums)
{
	uint64_t values[KVM_STATS_VALUES_MAX];
	int ret = read_at(fd, values, map->span * sizeof(*values), map->offset);

	for (unsigned i = 0; i < count && ret == 0; i++)
		if (map->index[i] < KVM_STATS_VALUES_MAX)
			sums[i] += values[map->index[i]];
	return ret;
}
