/* SPDX-License-Identifier: Apache-2.0 */
/* Things filled by their tables: see state_random.h. */
#include "tests/unit/state_random.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#define TRIES 10000

uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Often the least, sometimes the most, else anything. */
static uint64_t number(const struct state_field *field, uint64_t *seed)
{
	uint64_t fits = field->size < 8 ? (1ull << field->size * 8) - 1 : UINT64_MAX;
	uint64_t max = field->max ? field->max : fits;
	uint64_t value = random_next(seed);

	switch (random_next(seed) % 8) {
	case 0:
	case 1:
	case 2:
		return 0;
	case 3:
		return max;
	case 4:
		value = 1ull << value % 64;
		break;
	default:
		break;
	}
	return max == UINT64_MAX ? value : value % (max + 1);
}

static void fill(const struct state_table *table, uint8_t *thing, uint64_t *seed);

static void fill_element(const struct state_field *field, uint8_t *at, uint64_t *seed)
{
	uint64_t value =
		field->kind == STATE_KIND_UINT ? htole64(number(field, seed)) : random_next(seed);

	switch (field->kind) {
	case STATE_KIND_UINT: /* the low bytes; this is a test of little-endian machines */
		memcpy(at, &value, field->size);
		break;
	case STATE_KIND_BYTES: /* fill_bytes() */
		break;
	case STATE_KIND_TEXT:
		*at = (uint8_t)('a' + value % 26);
		break;
	case STATE_KIND_LIST:
		fill(field->table, at, seed);
		break;
	}
}

static void fill_bytes(uint8_t *at, uint32_t count, uint64_t *seed)
{
	for (uint32_t i = 0; i < count; i += sizeof(uint64_t)) {
		uint64_t value = random_next(seed);

		memcpy(at + i, &value, min_u64(count - i, sizeof(value)));
	}
}

/* Often few, so that many things can be tried. */
static uint32_t how_many(uint32_t room, uint64_t *seed)
{
	uint64_t most = random_next(seed) % 2 ? min_u64(room, 32) : room;

	return (uint32_t)(random_next(seed) % (most + 1));
}

static void fill(const struct state_table *table, uint8_t *thing, uint64_t *seed)
{
	for (uint32_t i = 0; i < table->field_count; i++) {
		const struct state_field *field = &table->fields[i];
		uint32_t count = field->count;

		if (field->kind == STATE_KIND_TEXT)
			count = (uint32_t)(random_next(seed) % count);
		else if (field->used != STATE_ALL)
			count = how_many(count, seed);
		if (field->used != STATE_ALL)
			memcpy(thing + field->used, &count, sizeof(count));
		if (field->kind == STATE_KIND_BYTES) {
			fill_bytes(thing + field->offset, count, seed);
			continue;
		}
		for (uint32_t j = 0; j < count; j++)
			fill_element(field, thing + field->offset + (size_t)j * field->size, seed);
	}
}

void state_random(const struct state_table *table, void *thing, uint64_t *seed)
{
	struct error err;

	for (unsigned i = 0; i < TRIES; i++) {
		memset(thing, 0, table->size);
		fill(table, thing, seed);
		if (!table->check || table->check(thing, &err) == 0)
			return;
	}
	abort();
}

struct state_writer state_file(
	const struct state_table *table, const char *instance, const void *thing)
{
	struct state_writer file;
	struct error err;

	state_begin(&file);
	state_save(&file, table, instance, thing);
	if (state_finish(&file, &err) < 0)
		abort();
	return file;
}

void state_damage(struct state_writer *file, uint64_t *seed)
{
	const size_t header = 16, body = file->size - sizeof(uint64_t);
	uint64_t sum;

	for (uint64_t n = random_next(seed) % 4 + 1; n; n--) {
		/* Half of it near the front, where a large thing's names and lengths are. */
		size_t span = random_next(seed) % 2 ? body - header : min_u64(body - header, 512);

		file->bytes[header + random_next(seed) % span] ^=
			(uint8_t)(1u << random_next(seed) % 8);
	}
	sum = htole64(XXH3_64bits(file->bytes, body));
	memcpy(file->bytes + body, &sum, sizeof(sum));
}
