/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers of a guest's pages. See pages.h for the contract. */
#include "vmm/memory/pages.h"

#include "vmm/base/util.h"

#include <stdatomic.h>

#define STEP (MIB(2) / GUEST_PAGE_SIZE)

/* Where piece `piece` begins, for the regions and, after the last of them, for the area. */
static uint64_t first_of(const struct guest_memory *memory, unsigned piece)
{
	uint64_t first = 0;

	for (unsigned i = 0; i < piece; i++)
		first = align_up(first + memory->regions[i].size / GUEST_PAGE_SIZE, STEP);
	return first;
}

uint64_t guest_memory_pages(const struct guest_memory *memory)
{
	struct page_range last = guest_memory_piece(memory, guest_memory_piece_count(memory) - 1);

	return last.first + last.count;
}

unsigned guest_memory_piece_count(const struct guest_memory *memory)
{
	return memory->region_count + guest_memory_slot_count(memory);
}

struct page_range guest_memory_piece(const struct guest_memory *memory, unsigned piece)
{
	bool in_area = piece >= memory->region_count;
	unsigned slot = in_area ? piece - memory->region_count : 0;
	struct memory_region r = in_area ? guest_memory_slot(memory, slot) : memory->regions[piece];

	return (struct page_range){
		.first = first_of(memory, in_area ? memory->region_count : piece) +
			 slot * (memory->area.unit / GUEST_PAGE_SIZE),
		.count = r.size / GUEST_PAGE_SIZE,
		.gpa = r.gpa,
		.host = r.host,
	};
}

bool guest_memory_piece_present(const struct guest_memory *memory, unsigned piece)
{
	return piece < memory->region_count ||
	       atomic_load_explicit(&memory->area.present, memory_order_acquire) >>
			       (piece - memory->region_count) &
		       1;
}

uint64_t guest_memory_page_of(const struct guest_memory *memory, const void *host)
{
	uint64_t first = 0;

	for (unsigned i = 0; i < memory->region_count; i++) {
		const struct memory_region *r = &memory->regions[i];
		uint64_t offset = (uint64_t)((uintptr_t)host - (uintptr_t)r->host);

		if (offset < r->size)
			return first + offset / GUEST_PAGE_SIZE;
		first = align_up(first + r->size / GUEST_PAGE_SIZE, STEP);
	}
	if ((uintptr_t)host - (uintptr_t)memory->area.host < memory->area.size)
		return first + ((uintptr_t)host - (uintptr_t)memory->area.host) / GUEST_PAGE_SIZE;
	return GUEST_PAGE_NONE;
}

void guest_memory_add_present(const struct guest_memory *memory, struct page_set *set)
{
	for (unsigned i = 0; i < guest_memory_piece_count(memory); i++) {
		struct page_range piece = guest_memory_piece(memory, i);

		if (guest_memory_piece_present(memory, i))
			page_set_add(set, piece.first, piece.count);
	}
}

/* The piece that this number is in, or lies behind: what a region leaves unused counts as its end. */
static unsigned piece_of(const struct guest_memory *memory, uint64_t page)
{
	unsigned piece = 0;

	while (piece + 1 < memory->region_count && page >= first_of(memory, piece + 1))
		piece++;
	if (memory->area.size && page >= first_of(memory, memory->region_count))
		piece = memory->region_count +
			(unsigned)((page - first_of(memory, memory->region_count)) /
				   (memory->area.unit / GUEST_PAGE_SIZE));
	return piece;
}

bool guest_memory_next_range(const struct guest_memory *memory, const struct page_set *set,
	uint64_t from, uint64_t max, struct page_range *range)
{
	uint64_t first, count;

	while (page_set_next_range(set, from, &first, &count)) {
		unsigned number = piece_of(memory, first);
		struct page_range piece = guest_memory_piece(memory, number);
		uint64_t offset = first - piece.first;

		if (offset < piece.count && guest_memory_piece_present(memory, number)) {
			range->first = first;
			range->count = min_u64(min_u64(count, piece.count - offset), max);
			range->gpa = piece.gpa + offset * GUEST_PAGE_SIZE;
			range->host = piece.host + offset * GUEST_PAGE_SIZE;
			return true;
		}
		from = offset < piece.count ? piece.first + piece.count : first + 1;
	}
	return false;
}
