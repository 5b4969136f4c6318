/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as the chosen vCPU sees it, and what traps in it. See gdb.h.
 *
 * An address is translated page by page by the vCPU's own page tables, and what comes of that goes through guest_memory's
 * checks: only RAM is read or written, and every write is guest_memory_write(), which is where whoever follows dirty pages looks. A
 * breakpoint is remembered by its physical address. Memory is shown as the guest knows it, without our instructions.
 */
#include "vmm/gdb/gdb_private.h"

#include <errno.h>
#include <string.h>

#define PAGE 4096 /* the smallest that any page table maps */

/* ---- breakpoints in memory ---- */

static struct gdb_breakpoint *find_address(struct gdb *gdb, uint64_t address)
{
	for (unsigned i = 0; i < gdb->breakpoint_count; i++)
		if (gdb->breakpoints[i].address == address)
			return &gdb->breakpoints[i];
	return NULL;
}

static const struct gdb_breakpoint *find_gpa(const struct gdb *gdb, uint64_t gpa)
{
	for (unsigned i = 0; i < gdb->breakpoint_count; i++)
		if (gdb->breakpoints[i].gpa == gpa)
			return &gdb->breakpoints[i];
	return NULL;
}

bool gdb_breakpoint_is_at(const struct gdb *gdb, uint64_t gpa)
{
	return find_gpa(gdb, gpa);
}

/* Half in another one, where instructions are longer than a byte: what is below both could not be told. */
static bool overlaps(const struct gdb *gdb, uint64_t gpa, size_t size)
{
	for (unsigned i = 0; i < gdb->breakpoint_count; i++) {
		uint64_t other = gdb->breakpoints[i].gpa;

		if (gpa != other && (gpa > other ? gpa - other : other - gpa) < size)
			return true;
	}
	return false;
}

int gdb_insert_breakpoint(struct gdb *gdb, uint64_t address)
{
	const struct guest_memory *memory = machine_memory(gdb->machine);
	struct vcpu *vcpu = gdb_vcpu(gdb, gdb->vcpu);
	struct gdb_breakpoint *b = &gdb->breakpoints[gdb->breakpoint_count];
	const struct gdb_breakpoint *twin;
	size_t size;
	const uint8_t *instruction = arch_gdb_instruction(&size);

	if (find_address(gdb, address))
		return 0;
	if (gdb->breakpoint_count == GDB_BREAKPOINTS_MAX)
		return -ENOSPC;
	*b = (struct gdb_breakpoint){.address = address};
	if (!vcpu || !arch_gdb_translate(vcpu, address, &b->gpa) || b->gpa % PAGE > PAGE - size)
		return -EFAULT;
	if (overlaps(gdb, b->gpa, size))
		return -EBUSY;
	twin = find_gpa(gdb, b->gpa);
	if (twin)
		memcpy(b->original, twin->original, size);
	else if (!guest_memory_read(memory, b->gpa, b->original, size) ||
		 !guest_memory_write(memory, b->gpa, instruction, size))
		return -EFAULT;
	gdb->breakpoint_count++;
	return 0;
}

/* Put back what was there, unless the guest has put something else there since, or another address means the same place. */
static void take_out(struct gdb *gdb, struct gdb_breakpoint *b)
{
	const struct guest_memory *memory = machine_memory(gdb->machine);
	struct gdb_breakpoint old = *b;
	uint8_t now[ARCH_GDB_INSTRUCTION];
	size_t size;
	const uint8_t *instruction = arch_gdb_instruction(&size);

	*b = gdb->breakpoints[--gdb->breakpoint_count];
	if (!find_gpa(gdb, old.gpa) && guest_memory_read(memory, old.gpa, now, size) &&
		!memcmp(now, instruction, size))
		guest_memory_write(memory, old.gpa, old.original, size);
}

int gdb_remove_breakpoint(struct gdb *gdb, uint64_t address)
{
	struct gdb_breakpoint *b = find_address(gdb, address);

	if (b)
		take_out(gdb, b);
	return 0;
}

void gdb_remove_all_breakpoints(struct gdb *gdb)
{
	while (gdb->breakpoint_count)
		take_out(gdb, &gdb->breakpoints[gdb->breakpoint_count - 1]);
}

/* ---- memory ---- */

/* Of the bytes from `gpa` on, those that an instruction of ours covers: what the guest has there is in its `original`. */
static void cover(struct gdb *gdb, uint64_t gpa, uint8_t *bytes, size_t size, bool writing)
{
	const struct guest_memory *memory = machine_memory(gdb->machine);
	size_t length;
	const uint8_t *instruction = arch_gdb_instruction(&length);

	for (unsigned n = 0; n < gdb->breakpoint_count; n++) {
		struct gdb_breakpoint *b = &gdb->breakpoints[n];

		/* The second bound is for the compiler: a release build warns without it. */
		for (size_t i = 0; i < length && i < sizeof(b->original); i++) {
			uint64_t at = b->gpa + i - gpa; /* huge where it lies before */

			if (at >= size)
				continue;
			if (writing) {
				b->original[i] = bytes[at];
				guest_memory_write(memory, b->gpa + i, &instruction[i], 1);
			} else {
				bytes[at] = b->original[i];
			}
		}
	}
}

/* One piece, within a page. */
static bool move_piece(struct gdb *gdb, uint64_t address, uint8_t *bytes, size_t size, bool writing)
{
	const struct guest_memory *memory = machine_memory(gdb->machine);
	struct vcpu *vcpu = gdb_vcpu(gdb, gdb->vcpu);
	uint64_t gpa;

	if (!vcpu || !arch_gdb_translate(vcpu, address, &gpa))
		return false;
	if (writing ? !guest_memory_write(memory, gpa, bytes, size)
		    : !guest_memory_read(memory, gpa, bytes, size))
		return false;
	cover(gdb, gpa, bytes, size, writing);
	return true;
}

static size_t move(struct gdb *gdb, uint64_t address, uint8_t *bytes, size_t size, bool writing)
{
	size_t done = 0;

	while (done < size) {
		size_t piece = min_u64(size - done, PAGE - address % PAGE);

		if (!move_piece(gdb, address, bytes + done, piece, writing))
			break;
		done += piece;
		address += piece;
	}
	return done;
}

size_t gdb_read_memory(struct gdb *gdb, uint64_t address, uint8_t *bytes, size_t size)
{
	return move(gdb, address, bytes, size, false);
}

size_t gdb_write_memory(struct gdb *gdb, uint64_t address, const uint8_t *bytes, size_t size)
{
	return move(gdb, address, (uint8_t *)(uintptr_t)bytes, size, true);
}

/* ---- breakpoints and watchpoints in the processor ---- */

static bool same_slot(const struct arch_gdb_slot *a, const struct arch_gdb_slot *b)
{
	return a->kind == b->kind && a->address == b->address && a->length == b->length;
}

int gdb_insert_slot(struct gdb *gdb, const struct arch_gdb_slot *slot)
{
	struct arch_gdb_slot *unused = NULL;
	int ret = arch_gdb_check_slot(slot);

	if (ret < 0)
		return ret;
	for (unsigned i = arch_gdb_slot_count(); i-- > 0;) {
		if (same_slot(&gdb->slots[i], slot))
			return 0;
		if (gdb->slots[i].kind == ARCH_GDB_UNUSED)
			unused = &gdb->slots[i];
	}
	if (!unused)
		return -ENOSPC;
	*unused = *slot;
	return 0;
}

int gdb_remove_slot(struct gdb *gdb, const struct arch_gdb_slot *slot)
{
	for (unsigned i = 0; i < arch_gdb_slot_count(); i++)
		if (same_slot(&gdb->slots[i], slot))
			gdb->slots[i] = (struct arch_gdb_slot){0};
	return 0;
}
