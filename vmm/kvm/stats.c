/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading KVM's binary counters. See stats.h.
 *
 * The file begins with a header, which says where an array of descriptors and the block of values are; a descriptor
 * has a fixed part, and a name as long as the header says.
 */
#include "vmm/kvm/stats.h"

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

static int read_values(int fd, const struct kvm_stats_header *header, char *descs,
	void (*take)(void *owner, const char *name, uint64_t value), void *owner)
{
	size_t step = sizeof(struct kvm_stats_desc) + header->name_size;

	for (uint32_t i = 0; i < header->num_desc; i++) {
		struct kvm_stats_desc *desc = (void *)(descs + i * step);
		uint64_t value;
		int ret;

		if (desc->size != 1)
			continue; /* a histogram */
		desc->name[header->name_size - 1] = '\0';
		ret = read_at(fd, &value, sizeof(value), header->data_offset + desc->offset);
		if (ret < 0)
			return ret;
		take(owner, desc->name, value);
	}
	return 0;
}

int kvm_stats_read(int fd, void (*take)(void *owner, const char *name, uint64_t value), void *owner)
{
	_cleanup_free_ char *descs = NULL;
	struct kvm_stats_header header;
	size_t size;
	int ret;

	ret = read_at(fd, &header, sizeof(header), 0);
	if (ret < 0)
		return ret;
	if (!header.name_size || header.name_size > KIB(4) || header.num_desc > STATS_MAX)
		return -EIO;
	size = header.num_desc * (sizeof(struct kvm_stats_desc) + header.name_size);
	descs = malloc(size);
	if (!descs)
		return -ENOMEM;
	ret = read_at(fd, descs, size, header.desc_offset);
	return ret < 0 ? ret : read_values(fd, &header, descs, take, owner);
}
