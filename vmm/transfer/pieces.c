/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of guest memory as they were: see pieces.h. */
#include "vmm/transfer/pieces.h"

#include "vmm/base/util.h"

void pieces_note(struct pieces *pieces, const struct guest_memory *memory)
{
	*pieces = (struct pieces){0};
	for (unsigned i = 0; i < guest_memory_piece_count(memory); i++) {
		if (!guest_memory_piece_present(memory, i))
			continue;
		if (i >= memory->region_count)
			pieces->slots |= 1ull << (i - memory->region_count);
		pieces->at[pieces->count++] = guest_memory_piece(memory, i);
	}
}

const struct page_range *pieces_find(const struct pieces *pieces, uint64_t page)
{
	for (unsigned i = 0; i < pieces->count; i++)
		if (page - pieces->at[i].first < pieces->at[i].count)
			return &pieces->at[i];
	return NULL;
}

bool pieces_range(
	const struct pieces *pieces, uint64_t first, uint64_t max, struct page_range *range)
{
	const struct page_range *piece = pieces_find(pieces, first);
	uint64_t offset;

	if (!piece)
		return false;
	offset = first - piece->first;
	*range = (struct page_range){
		.first = first,
		.count = min_u64(max, piece->count - offset),
		.gpa = piece->gpa + offset * GUEST_PAGE_SIZE,
		.host = piece->host + offset * GUEST_PAGE_SIZE,
	};
	return true;
}
