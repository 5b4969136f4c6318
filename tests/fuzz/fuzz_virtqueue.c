/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary ring contents against the device side of a virtqueue. The input is a little program:
 * write bytes into guest RAM, pop, push, unpop, ask for kicks. Every segment that comes out must lie
 * inside RAM (it is read and written, under the address sanitizer).
 */
#include "tests/fuzz/input.h"
#include "virtio/virtqueue.h"
#include "vmm/base/util.h"

#include <string.h>

#define RAM	 KIB(64)
#define SEGMENTS 40

static void poke(struct input *in, struct guest_memory *memory)
{
	uint64_t at = take(in, 2), len = take(in, 1) % 64 + 1;
	uint8_t bytes[64] = {0};

	for (unsigned i = 0; i < len; i++)
		bytes[i] = (uint8_t)take(in, 1);
	guest_memory_write(memory, at, bytes, len);
}

static void use(const struct descriptor_chain *chain)
{
	uint8_t buffer[256];

	chain_read(chain, 3, buffer, sizeof(buffer));
	chain_write(chain, 1, buffer, sizeof(buffer));
	for (unsigned i = 0; i < (unsigned)chain->readable + chain->writable; i++) {
		volatile uint8_t *base = chain->segments[i].iov_base;

		(void)base[0];
		(void)base[chain->segments[i].iov_len - 1];
	}
}

static void step(struct input *in, struct virtqueue *q, struct guest_memory *memory,
	struct descriptor_chain *chain, unsigned *popped)
{
	switch (take(in, 1) % 8) {
	case 0:
	case 1:
		poke(in, memory);
		break;
	case 2:
	case 3:
		if (virtqueue_pop(q, chain) > 0) {
			use(chain);
			++*popped;
		}
		break;
	case 4:
		virtqueue_push(q, (uint16_t)take(in, 2), (uint32_t)take(in, 4));
		break;
	case 5:
		virtqueue_needs_interrupt(q);
		break;
	case 6:
		virtqueue_disable_kicks(q);
		virtqueue_enable_kicks(q);
		break;
	case 7:
		if (*popped) {
			virtqueue_unpop(q, 1);
			--*popped;
		}
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_memory memory;
	struct iovec segments[SEGMENTS];
	struct descriptor_chain chain = {.segments = segments, .capacity = SEGMENTS};
	struct input in = {data, size};
	struct virtqueue_registers registers;
	struct virtqueue q;
	unsigned popped = 0;

	if (!memory.size) {
		const struct guest_memory_config config = {.region_count = 1,
			.regions = {{.gpa = 0, .size = RAM}},
			.pages = MEMORY_PAGES_OFF};
		struct error err;

		if (guest_memory_create(&config, &memory, &err) < 0)
			abort();
	}
	guest_memory_zero(&memory, 0, RAM);
	registers.size = (uint16_t)(1u << take(&in, 1) % 12);
	registers.desc = take(&in, 2);
	registers.driver = take(&in, 2);
	registers.device = take(&in, 2);
	if (virtqueue_start(&q, &memory, &registers, take(&in, 8)) < 0)
		return 0;
	while (in.left)
		step(&in, &q, &memory, &chain, &popped);
	return 0;
}
