/* SPDX-License-Identifier: Apache-2.0 */
/* The state codec: what is saved is loaded, versions meet as state.h says, and no bytes do harm. */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/state/state.h"

#include <check.h>
#include <string.h>
#include <xxhash.h>

struct part {
	uint64_t gpa;
	uint16_t vector;
};

static const struct state_field part_fields[] = {
	STATE_UINT(struct part, gpa),
	STATE_UINT(struct part, vector, .max = 99),
};
static const struct state_table part_table = STATE_TABLE("part", 1, struct part, part_fields);

struct thing {
	uint8_t small;
	uint32_t registers[5];
	uint64_t large;
	bool on;
	char name[8];
	uint8_t bytes[6];
	uint8_t blob[10];
	uint32_t blob_size;
	struct part parts[3];
	uint32_t part_count;
	uint16_t added; /* by version 2 */
};

#define THING_FIELDS                                                                               \
	STATE_UINT(struct thing, small), STATE_UINTS(struct thing, registers),                     \
		STATE_UINT(struct thing, large), STATE_BOOL(struct thing, on),                     \
		STATE_TEXT(struct thing, name), STATE_BYTES(struct thing, bytes),                  \
		STATE_BLOB(struct thing, blob, blob_size),                                         \
		STATE_LIST(struct thing, parts, part_count, &part_table)

static int check_thing(const void *thing, struct error *err)
{
	const struct thing *t = thing;

	return t->small == 13 ? error_set(err, ERROR_CORRUPT, "13 is unlucky") : 0;
}

static const struct state_field old_fields[] = {THING_FIELDS};
static const struct state_table old_table =
	STATE_TABLE("thing", 1, struct thing, old_fields, .check = check_thing);
static const struct state_field new_fields[] = {
	THING_FIELDS, STATE_UINT(struct thing, added, .since = 2)};
static const struct state_table new_table =
	STATE_TABLE("thing", 2, struct thing, new_fields, .check = check_thing);
static const struct state_field lenient_fields[] = {
	THING_FIELDS, STATE_UINT(struct thing, added, .since = 2, .optional = true)};
static const struct state_table lenient_table =
	STATE_TABLE("thing", 2, struct thing, lenient_fields);
static const struct state_table spare_table =
	STATE_TABLE("spare", 1, struct thing, old_fields, .optional = true);

static const struct thing full = {
	.small = 7,
	.registers = {1, 0, UINT32_MAX, 4, 5},
	.large = UINT64_MAX,
	.on = true,
	.name = "orders",
	.bytes = {0, 1, 2, 0xff, 4, 5},
	.blob = {9, 8, 7},
	.blob_size = 3,
	.parts = {{.gpa = 1ull << 40, .vector = 99}, {.gpa = 2}},
	.part_count = 2,
	.added = 0x1234,
};

static struct error err;

static struct state_writer save(const struct state_table *table, const struct thing *thing)
{
	struct state_writer out;

	state_begin(&out);
	state_save(&out, table, "a", thing);
	ck_assert_int_eq(state_finish(&out, &err), 0);
	return out;
}

/* 0, or how it was refused. */
static int load(
	const struct state_writer *file, const struct state_table *table, struct thing *thing)
{
	struct state_reader in;
	int ret = state_open(&in, file->bytes, file->size, &err);

	if (ret == 0)
		ret = state_load(&in, table, "a", thing, &err);
	state_close(&in);
	return ret;
}

START_TEST(what_is_saved_is_loaded)
{
	struct state_writer file = save(&new_table, &full);
	struct thing thing = {0};

	ck_assert_int_eq(load(&file, &new_table, &thing), 0);
	ck_assert_mem_eq(&thing, &full, sizeof(thing));
	state_release(&file);
}
END_TEST

START_TEST(a_field_of_a_later_version_stays_as_the_caller_has_it)
{
	struct state_writer file = save(&old_table, &full);
	struct thing thing = {.added = 77};

	ck_assert_int_eq(load(&file, &new_table, &thing), 0);
	ck_assert_int_eq(thing.added, 77);
	ck_assert_str_eq(thing.name, "orders");
	state_release(&file);
}
END_TEST

START_TEST(an_older_reader_refuses_what_it_does_not_know_unless_it_is_optional)
{
	struct state_writer file = save(&new_table, &full);
	struct thing thing = {0};

	ck_assert_int_lt(load(&file, &old_table, &thing), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	ck_assert_ptr_nonnull(strstr(err.text, "field 'added' is not known"));
	ck_assert_ptr_nonnull(strstr(err.hint, "later version"));
	state_release(&file);
	file = save(&lenient_table, &full);
	ck_assert_int_eq(load(&file, &old_table, &thing), 0);
	ck_assert_int_eq(thing.small, 7);
	state_release(&file);
}
END_TEST

START_TEST(versions_that_are_too_old_are_refused)
{
	struct state_table strict = new_table;
	struct state_writer file = save(&old_table, &full);
	struct thing thing = {0};

	strict.oldest = 2;
	ck_assert_int_lt(load(&file, &strict, &thing), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	state_release(&file);
}
END_TEST

START_TEST(a_missing_field_and_one_of_another_shape_are_refused)
{
	static const struct state_field few[] = {STATE_UINT(struct thing, small)};
	static const struct state_field other[] = {{.name = "small",
		.kind = STATE_KIND_TEXT,
		.offset = offsetof(struct thing, name),
		.size = 1,
		.count = 8,
		.used = STATE_ALL}};
	static const struct state_table less = STATE_TABLE("thing", 2, struct thing, few);
	static const struct state_table text = STATE_TABLE("thing", 2, struct thing, other);
	struct state_writer file = save(&less, &full);
	struct thing thing = {0};

	ck_assert_int_lt(load(&file, &new_table, &thing), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "'registers' is missing"));
	state_release(&file);
	file = save(&text, &full);
	ck_assert_int_lt(load(&file, &less, &thing), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "another kind"));
	state_release(&file);
}
END_TEST

START_TEST(what_the_things_own_check_refuses_changes_nothing)
{
	struct thing unlucky = full, thing = {.small = 5}, before = thing;
	struct state_writer file;

	unlucky.small = 13;
	file = save(&new_table, &unlucky);
	ck_assert_int_lt(load(&file, &new_table, &thing), 0);
	ck_assert_str_eq(err.text, "thing 'a': 13 is unlucky");
	ck_assert_mem_eq(&thing, &before, sizeof(thing));
	unlucky = full;
	unlucky.parts[1].vector = 100;
	state_release(&file);
	file = save(&new_table, &unlucky);
	ck_assert_int_lt(load(&file, &new_table, &thing), 0);
	ck_assert_str_eq(
		err.text, "thing 'a': parts[1]: field 'vector' is 100, and at most 99 makes sense");
	ck_assert_mem_eq(&thing, &before, sizeof(thing));
	state_release(&file);
}
END_TEST

START_TEST(a_section_that_nobody_took_is_told_unless_it_is_optional)
{
	struct state_reader in;
	struct state_writer out;
	struct thing thing;

	state_begin(&out);
	state_save(&out, &old_table, "a", &full);
	state_save(&out, &spare_table, "b", &full);
	ck_assert_int_eq(state_finish(&out, &err), 0);
	ck_assert_int_eq(state_open(&in, out.bytes, out.size, &err), 0);
	ck_assert_int_lt(state_all_taken(&in, &err), 0);
	ck_assert_str_eq(err.text, "the state has a thing 'a' that this VM does not have");
	ck_assert_int_lt(state_load(&in, &old_table, "z", &thing, &err), 0);
	ck_assert_int_eq(state_load(&in, &old_table, "a", &thing, &err), 0);
	ck_assert_int_eq(state_all_taken(&in, &err), 0);
	state_close(&in);
	state_release(&out);
}
END_TEST

START_TEST(one_section_twice_is_refused)
{
	struct state_reader in;
	struct state_writer out;

	state_begin(&out);
	state_save(&out, &old_table, "a", &full);
	state_save(&out, &old_table, "a", &full);
	ck_assert_int_eq(state_finish(&out, &err), 0);
	ck_assert_int_lt(state_open(&in, out.bytes, out.size, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_CORRUPT);
	state_release(&out);
}
END_TEST

START_TEST(a_file_describes_itself)
{
	struct state_writer file = save(&new_table, &full);
	struct state_reader in;
	json_t *list, *fields;

	ck_assert_int_eq(state_open(&in, file.bytes, file.size, &err), 0);
	list = state_describe(&in, &err);
	ck_assert_int_eq(json_array_size(list), 1);
	fields = json_object_get(json_array_get(list, 0), "fields");
	ck_assert_str_eq(json_string_value(json_object_get(fields, "name")), "orders");
	ck_assert_str_eq(json_string_value(json_object_get(fields, "blob")), "090807");
	ck_assert_str_eq(json_string_value(json_object_get(fields, "large")), "0xffffffffffffffff");
	ck_assert_int_eq(json_array_size(json_object_get(fields, "parts")), 2);
	ck_assert_int_eq(json_integer_value(json_object_get(fields, "added")), 0x1234);
	json_decref(list);
	state_close(&in);
	state_release(&file);
}
END_TEST

START_TEST(a_flipped_bit_and_a_cut_are_told)
{
	struct state_writer file = save(&new_table, &full);
	struct thing thing = {0};

	for (size_t i = 0; i < file.size; i++) {
		file.bytes[i] ^= (uint8_t)(1 << i % 8);
		ck_assert_int_lt(load(&file, &new_table, &thing), 0);
		file.bytes[i] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t size = 0; size < file.size; size++) {
		struct state_reader in;

		ck_assert_int_lt(state_open(&in, file.bytes, size, &err), 0);
	}
	state_release(&file);
}
END_TEST

/* With a checksum that fits: what an attacker would do. */
START_TEST(no_bytes_do_harm)
{
	struct state_writer file = save(&new_table, &full);
	_cleanup_free_ uint8_t *copy = malloc(file.size);
	unsigned loaded = 0;

	srand(1);
	for (unsigned round = 0; round < 20000; round++) {
		struct state_writer bad = {.bytes = copy, .size = file.size};
		struct thing thing = {0};
		struct state_reader in;
		uint64_t sum;

		memcpy(copy, file.bytes, file.size);
		for (unsigned n = 1 + (unsigned)rand() % 4; n; n--)
			copy[16 + (size_t)rand() % (file.size - 24)] = (uint8_t)rand();
		sum = XXH3_64bits(copy, file.size - sizeof(sum));
		memcpy(copy + file.size - sizeof(sum), &sum, sizeof(sum));
		loaded += load(&bad, &new_table, &thing) == 0;
		if (state_open(&in, bad.bytes, bad.size, &err) == 0) {
			json_decref(state_describe(&in, &err));
			state_close(&in);
		}
		ck_assert_uint_le(thing.blob_size, sizeof(thing.blob));
		ck_assert_uint_le(thing.part_count, ARRAY_SIZE(thing.parts));
		ck_assert_ptr_nonnull(memchr(thing.name, 0, sizeof(thing.name)));
	}
	ck_assert_uint_gt(loaded, 0); /* else nothing but the frame was tried */
	state_release(&file);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("state");

	tcase_add_test(tc, what_is_saved_is_loaded);
	tcase_add_test(tc, a_field_of_a_later_version_stays_as_the_caller_has_it);
	tcase_add_test(tc, an_older_reader_refuses_what_it_does_not_know_unless_it_is_optional);
	tcase_add_test(tc, versions_that_are_too_old_are_refused);
	tcase_add_test(tc, a_missing_field_and_one_of_another_shape_are_refused);
	tcase_add_test(tc, what_the_things_own_check_refuses_changes_nothing);
	tcase_add_test(tc, a_section_that_nobody_took_is_told_unless_it_is_optional);
	tcase_add_test(tc, one_section_twice_is_refused);
	tcase_add_test(tc, a_file_describes_itself);
	tcase_add_test(tc, a_flipped_bit_and_a_cut_are_told);
	tcase_add_test(tc, no_bytes_do_harm);
	tcase_set_timeout(tc, 60);
	return run_tests("state", tc, NULL);
}
