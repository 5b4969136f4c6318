/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings and chains that break the rules (virtio 1.2 §2.7), one rule at a time, and a second
 * processor that changes them while the device reads.
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/lapic.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/smp.h"
#include "guest/payloads/lib/string.h"
#include "tests/hostile/attack.h"

#define SIZE 64
#define NEXT VRING_DESC_F_NEXT
#define WRIT VRING_DESC_F_WRITE
#define INDI VRING_DESC_F_INDIRECT

static struct blk_request request;
static uint8_t data[SECTOR * 8] __attribute__((aligned(4096)));
static struct vring_desc table[1024] __attribute__((aligned(16)));

static struct virtq *queue(void)
{
	return &attack.victim.queue;
}

static void set(
	struct vring_desc *desc, const void *address, uint32_t len, uint16_t flags, uint16_t next)
{
	*desc = (struct vring_desc){
		.addr = (uint64_t)address, .len = len, .flags = flags, .next = next};
}

/* A good read request in descriptors 0, 1, 2, to be spoilt. */
static struct vring_desc *good_chain(void)
{
	struct vring_desc *desc = queue()->desc;

	request.header = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN};
	request.status = 0xff;
	set(&desc[0], &request.header, sizeof(request.header), NEXT, 1);
	set(&desc[1], data, SECTOR, NEXT | WRIT, 2);
	set(&desc[2], &request.status, 1, WRIT, 0);
	return desc;
}

static void launch(uint16_t head)
{
	virtq_publish(queue(), head);
	virtq_notify(queue());
}

/* ---- the available ring ---- */

void attack_available_index(void)
{
	static const uint16_t jumps[] = {SIZE + 1, SIZE + 2, 1000, 0x7fff, 0x8000, 0xff00, 0xffff};
	static const uint16_t heads[] = {SIZE, SIZE + 1, 0x7fff, 0x8000, 0xffff};

	attack_open(SIZE, 0);
	for (unsigned i = 0; i < sizeof(jumps) / sizeof(*jumps); i++) {
		good_chain();
		queue()->avail->idx = (uint16_t)(queue()->added + jumps[i]);
		virtq_notify(queue());
		attack_expect_broken("an available index that ran ahead");
	}
	for (unsigned i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		good_chain();
		launch(heads[i]);
		attack_expect_broken("a head out of range");
	}
	/* Jumping to and fro while the device looks. */
	for (unsigned i = 0; i < 20; i++) {
		good_chain();
		for (unsigned n = 0; n < 2000; n++)
			queue()->avail->idx = (uint16_t)attack_random();
		virtq_notify(queue());
		for (unsigned n = 0; n < 2000; n++)
			queue()->avail->idx = (uint16_t)attack_random();
		attack_recover("an available index that jumps");
	}
}

/* ---- chains ---- */

static void broken(const char *what)
{
	launch(0);
	attack_expect_broken(what);
}

static void loops(void)
{
	struct vring_desc *desc = good_chain();

	desc[0].next = 0;
	broken("a chain of one that loops");
	good_chain();
	desc[1].next = 0;
	broken("a chain of two that loops");
	good_chain();
	set(&desc[2], data, 1, NEXT | WRIT, 1);
	broken("a loop behind the first");
	for (uint16_t i = 0; i < SIZE; i++)
		set(&desc[i], &request.header, 1, NEXT, (uint16_t)((i + 1) % SIZE));
	broken("a loop through the whole table");
	for (uint16_t i = 0; i < SIZE; i++)
		set(&desc[i], NULL, 0, NEXT, (uint16_t)((i + 1) % SIZE));
	broken("a loop of empty segments");
}

static void wrong_next(void)
{
	static const uint16_t wrong[] = {SIZE, SIZE + 1, 0x8000, 0xffff};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		good_chain()[0].next = wrong[i];
		broken("a next out of range");
	}
}

static void outside_ram(void)
{
	uint64_t end = boot_ram_end();
	const uint64_t wrong[] = {end, end - 1, end - SECTOR + 1, 0xbffffff0, PCI_WINDOW_BASE,
		ECAM_BASE, 0xfee00000, 0xffffffff, 1ull << 32, 1ull << 47, 1ull << 63, -1ull,
		-15ull, -(uint64_t)SECTOR};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		good_chain()[1].addr = wrong[i];
		broken("data outside RAM");
		set(&good_chain()[0], (void *)wrong[i], SECTOR, NEXT, 1);
		broken("a header outside RAM");
		set(&good_chain()[2], (void *)wrong[i], SECTOR, WRIT, 0);
		broken("a status outside RAM");
	}
}

static void huge(void)
{
	static const uint32_t lengths[] = {
		0xffffffff, 0xfffffe00, 0x80000000, 0x7fffffff, 0x40000000};

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		good_chain()[1].len = lengths[i];
		broken("a huge length");
		good_chain()[0].len = lengths[i];
		broken("a huge header");
		good_chain()[2].len = lengths[i];
		broken("a huge status");
	}
}

static void wrong_shape(void)
{
	struct vring_desc *desc = good_chain();

	desc[2].flags = 0;
	broken("readable behind writable");
	good_chain()[0].len = 15;
	broken("a header too short");
	good_chain()[0].flags = 0;
	broken("no status");
	good_chain()[0].flags = WRIT;
	broken("nothing readable");
	set(&good_chain()[0], NULL, 0, 0, 0);
	broken("nothing at all");
	good_chain();
	set(&desc[2], NULL, 0, WRIT, 0);
	set(&desc[1], NULL, 0, NEXT | WRIT, 2);
	broken("nothing writable");
}

static void indirect_to(const void *address, uint32_t len, uint16_t flags)
{
	set(&queue()->desc[0], address, len, flags, 1);
}

/* The good chain, in the indirect table. */
static void good_table(void)
{
	good_chain();
	memcpy(table, queue()->desc, 3 * sizeof(*table));
}

static void wrong_tables(void)
{
	uint64_t end = boot_ram_end();
	const struct {
		uint64_t address;
		uint32_t len;
	} wrong[] = {{(uint64_t)table, 0}, {(uint64_t)table, 1}, {(uint64_t)table, 47},
		{(uint64_t)table, 49}, {(uint64_t)table, 16 * (SIZE + 1)},
		{(uint64_t)table, 0xfffffff0}, {(uint64_t)table, 0x10000000}, {end, 48},
		{end - 32, 48}, {PCI_WINDOW_BASE, 48}, {-16ull, 48}, {-48ull, 48}};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		good_table();
		indirect_to((void *)wrong[i].address, wrong[i].len, INDI);
		broken("a wrong indirect table");
	}
	good_table();
	indirect_to(table, 48, INDI | NEXT);
	broken("an indirect table with a next");
	good_table();
	indirect_to(table, 48, INDI);
	set(&table[1], table, 48, INDI, 0);
	broken("indirect in indirect");
	good_table();
	set(&table[0], table, 48, INDI, 0);
	indirect_to(table, 48, INDI);
	broken("a table that holds itself");
	good_table();
	table[0].next = 3;
	indirect_to(table, 48, INDI);
	broken("a next behind the table");
	good_table();
	table[2] = table[1];
	table[2].next = 0;
	indirect_to(table, 48, INDI);
	broken("a table that loops");
}

void attack_chains(void)
{
	attack_open(SIZE, 0);
	good_table();
	indirect_to(table, 48, INDI);
	broken("an indirect table that was not negotiated");
	attack.victim.dev.features |= FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
	attack_recover("negotiating more");
	loops();
	wrong_next();
	outside_ram();
	huge();
	wrong_shape();
	wrong_tables();
}

/* ---- requests that a disk refuses without breaking ---- */

static void refused(uint32_t type, uint64_t sector, uint32_t len, uint8_t status, const char *what)
{
	uint8_t got = blk_do(&attack.victim, type, sector, data, len);

	check(got == status, "%s: status %u instead of %u", what, got, status);
	check(!(virtio_status(&attack.victim.dev) & VIRTIO_CONFIG_S_NEEDS_RESET),
		"%s broke the device", what);
}

static void refused_everywhere(uint32_t type)
{
	uint64_t end = attack.victim.capacity;
	const uint64_t wrong[] = {
		end, end - 1, end - 7, end + 1, 1ull << 54, 1ull << 55, 1ull << 63, -1ull, -8ull};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		refused(type, wrong[i], sizeof(data), VIRTIO_BLK_S_IOERR, "beyond the end");
	refused(type, 0, SECTOR - 1, VIRTIO_BLK_S_IOERR, "less than a sector");
	refused(type, 0, SECTOR + 1, VIRTIO_BLK_S_IOERR, "more than a sector");
}

static void wrong_ranges(uint32_t type)
{
	struct virtio_blk_discard_write_zeroes *range = (void *)data;
	uint64_t end = attack.victim.capacity;
	const struct {
		uint64_t sector;
		uint32_t sectors, flags;
	} wrong[] = {{end, 1, 0}, {end - 1, 2, 0}, {-1ull, 1, 0}, {1ull << 63, 0xffffffff, 0},
		{0, 0xffffffff, 0}, {1ull << 55, 8, 0}};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		memset(data, 0, sizeof(data));
		range->sector = wrong[i].sector;
		range->num_sectors = wrong[i].sectors;
		range->flags = wrong[i].flags;
		refused(type, 0, sizeof(*range), VIRTIO_BLK_S_IOERR, "a range beyond the end");
	}
	memset(data, 0, sizeof(data));
	range->num_sectors = 8;
	range->flags = 0xfffffffe;
	refused(type, 0, sizeof(*range), VIRTIO_BLK_S_UNSUPP,
		"a range with flags that do not exist");
	refused(type, 0, sizeof(*range) - 1, VIRTIO_BLK_S_IOERR, "half a range");
	refused(type, 0, sizeof(data), VIRTIO_BLK_S_IOERR, "more ranges than there may be");
}

void attack_requests(void)
{
	static const uint32_t types[] = {2, 3, 5, 7, 9, 10, 12, 14, 100, 0x80000000, 0xffffffff};

	attack_open(SIZE, FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES));
	for (unsigned i = 0; i < sizeof(types) / sizeof(*types); i++)
		refused(types[i], 0, SECTOR, VIRTIO_BLK_S_UNSUPP, "a type that does not exist");
	refused_everywhere(VIRTIO_BLK_T_IN);
	refused_everywhere(VIRTIO_BLK_T_OUT);
	if (attack.victim.dev.features & FEATURE(VIRTIO_BLK_F_DISCARD))
		wrong_ranges(VIRTIO_BLK_T_DISCARD);
	wrong_ranges(VIRTIO_BLK_T_WRITE_ZEROES);
	for (uint32_t len = 0; len < 40; len++)
		refused(VIRTIO_BLK_T_GET_ID, 0, len, VIRTIO_BLK_S_OK, "a name in a short buffer");
	attack_recover("requests that were refused");
}

/* ---- with honest requests in flight ---- */

void attack_in_flight(void)
{
	static struct blk_request requests[16];
	static uint8_t buffers[16][SECTOR];

	attack_open(SIZE, 0);
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = 0; i < 16; i++)
			check(blk_add(&attack.victim, &requests[i], i & 1, 8 * i, buffers[i],
				      SECTOR),
				"no descriptor free");
		set(&queue()->desc[SIZE - 1], data, SECTOR, NEXT,
			(uint16_t)(round & 1 ? SIZE - 1 : 0xffff));
		launch(SIZE - 1);
		attack_expect_broken("a bad chain behind 16 good ones");
	}
}

/* ---- a second processor ---- */

#define SCRATCH	     (1u << 20)
#define SCRATCH_TAIL (128u << 10) /* room behind it for any length below */

static volatile bool racing; /* what is asked of the second processor */
static volatile bool races;  /* what it does */
static uint8_t *scratch;

/*
 * All that is written here keeps the device away from our own memory, in whatever order it is read:
 * an address is in the scratch space, with room for every length that is not absurd, or not in RAM.
 */
static void spoil(struct vring_desc *desc, uint64_t *seed)
{
	uint64_t r = random_next(seed);

	switch (r % 8) {
	case 0:
		desc->addr = (uint64_t)scratch + (r >> 8) % SCRATCH;
		break;
	case 1:
		desc->addr = 0xc0000000 + (r >> 8) % 0x20000000;
		break;
	case 2:
		desc->len = (uint32_t)(r >> 8) % (SCRATCH_TAIL / 2);
		break;
	case 3:
		desc->len = 0xffffff00;
		break;
	case 4:
		desc->flags = (uint16_t)((r >> 8) % 8);
		break;
	case 5:
		desc->next = (uint16_t)((r >> 8) % SIZE);
		break;
	default:
		desc->flags = NEXT;
	}
}

static void race(uint32_t id)
{
	uint64_t seed = 77 + id;

	for (;;) {
		while (!racing)
			cpu_relax();
		races = true;
		while (racing) {
			uint64_t r = random_next(&seed);

			spoil(r & 1 ? &queue()->desc[(r >> 8) % SIZE] : &table[(r >> 8) % SIZE],
				&seed);
			if (r % 16 == 0)
				queue()->avail->ring[(r >> 8) % SIZE] =
					(uint16_t)((r >> 16) % (SIZE + 1));
			if (r % 64 == 2)
				queue()->avail->flags = (uint16_t)(r >> 8);
		}
		races = false;
	}
}

void attack_race(void)
{
	uint64_t rounds = boot_number("rounds", 200);

	attack_open(SIZE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
	scratch = memory_alloc(SCRATCH + SCRATCH_TAIL, 4096);
	request.header = (struct virtio_blk_outhdr){0};
	lapic_enable();
	smp_init();
	check(smp_start(1, race, 20000), "no second processor: start this with 2");
	for (uint64_t round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < SIZE; i++) {
			set(&queue()->desc[i], scratch, 512, NEXT, (uint16_t)((i + 1) % SIZE));
			set(&table[i], scratch, 512, NEXT, (uint16_t)((i + 1) % SIZE));
		}
		set(&queue()->desc[0], table, 48, INDI, 0);
		racing = true;
		check(wait_until(races, 10000), "the second processor does not go on");
		for (unsigned i = 0; i < 32; i++)
			launch((uint16_t)attack_below(SIZE));
		clock_wait_ms(2);
		racing = false;
		check(wait_until(!races, 10000), "the second processor does not stop");
		attack_recover("a race");
	}
}
