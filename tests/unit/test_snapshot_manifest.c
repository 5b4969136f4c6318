/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest: what is written comes back; whatever was changed, is missing or cannot be is refused in words. */
#include "tests/unit/runner.h"
#include "tests/unit/snapshot_files.h"
#include "vmm/base/util.h"
#include "vmm/transfer/page_ranges.h"
#include "vmm/transfer/page_sums.h"

#include <string.h>

#define PARENT "00112233445566778899aabbccddeeff"

static struct snapshot_manifest manifest, again;
static struct error err;
static char *text;

static void add(const char *name, enum snapshot_check check, uint64_t size)
{
	struct checksum sum = {size * 3, size * 7 + 1};

	MUST(snapshot_manifest_add(&manifest, name, check, size, &sum, &err));
}

/* An incremental one with everything in it. */
static void setup(void)
{
	struct memory_layout layout = layout_of_two(100, 50);

	layout.area_gpa = GIB(8);
	layout.area_size = MIB(256);
	layout.area_unit = MIB(4);
	layout.area_present = 0x8000000000000001;
	manifest_begin(&manifest, &layout);
	strcpy(manifest.parent, PARENT);
	manifest.parent_folder = strdup("../before");
	manifest.kind = SNAPSHOT_INCREMENTAL;
	manifest.background = true;
	manifest.data_pages = 77;
	add("state", SNAPSHOT_CHECK_WHOLE, 5);
	add("memory", SNAPSHOT_CHECK_CHUNKS, memory_layout_pages(&layout) * GUEST_PAGE_SIZE);
	add(PAGE_SUMS_FILE, SNAPSHOT_CHECK_WHOLE, 40);
	add(PAGE_RANGES_FILE, SNAPSHOT_CHECK_WHOLE, 24);
	add("disk-vda.img", SNAPSHOT_CHECK_SIZE, MIB(1));
	manifest.disk_count = 2;
	manifest.disks[0] = (struct snapshot_disk){
		.id = "vda", .mode = SNAPSHOT_DISK_REFLINK, .file = "disk-vda.img", .size = MIB(1)};
	manifest.disks[1] = (struct snapshot_disk){.id = "vdb", .base = strdup("/images/base")};
}

static void teardown(void)
{
	snapshot_manifest_destroy(&manifest);
	snapshot_manifest_destroy(&again);
	free(text);
	text = NULL;
}

START_TEST(what_is_written_is_read_back_the_same)
{
	_cleanup_free_ char *second = NULL;

	MUST(snapshot_manifest_format(&manifest, &text, &err));
	MUST(snapshot_manifest_parse(&again, text, strlen(text), &err));
	ck_assert_str_eq(again.id, manifest.id);
	ck_assert_str_eq(again.parent, PARENT);
	ck_assert_str_eq(again.parent_folder, "../before");
	ck_assert_uint_eq(again.created_ns, manifest.created_ns);
	ck_assert_str_eq(again.version, BULKHEAD_VERSION);
	ck_assert_uint_eq(again.memory.area_present, 0x8000000000000001);
	ck_assert_uint_eq(again.memory.regions[1].gpa, GIB(4));
	ck_assert_uint_eq(again.data_pages, 77);
	ck_assert(again.background && again.kind == SNAPSHOT_INCREMENTAL);
	ck_assert(json_equal(again.machine, manifest.machine));
	ck_assert(json_equal(again.devices, manifest.devices));
	ck_assert_uint_eq(again.part_count, 5);
	ck_assert(checksum_equal(again.parts[0].sum, manifest.parts[0].sum));
	ck_assert_str_eq(again.disks[0].file, "disk-vda.img");
	ck_assert_str_eq(again.disks[1].base, "/images/base");
	MUST(snapshot_manifest_format(&again, &second, &err));
	ck_assert_str_eq(second, text);
}
END_TEST

START_TEST(no_flipped_bit_goes_unnoticed)
{
	size_t size;

	MUST(snapshot_manifest_format(&manifest, &text, &err));
	size = strlen(text);
	for (size_t i = 0; i < size * 8; i++) {
		_cleanup_free_ char *second = NULL;

		text[i / 8] ^= (char)(1 << i % 8);
		if (snapshot_manifest_parse(&again, text, size, &err) == 0) {
			/* Blanks may be others: what it says is the same. */
			text[i / 8] ^= (char)(1 << i % 8);
			MUST(snapshot_manifest_format(&again, &second, &err));
			ck_assert_str_eq(second, text);
			text[i / 8] ^= (char)(1 << i % 8);
			snapshot_manifest_destroy(&again);
		} else {
			ck_assert(err.kind == ERROR_CORRUPT || err.kind == ERROR_INCOMPATIBLE);
			ck_assert(*err.text);
		}
		text[i / 8] ^= (char)(1 << i % 8);
	}
}
END_TEST

START_TEST(a_manifest_that_ends_early_is_refused)
{
	MUST(snapshot_manifest_format(&manifest, &text, &err));
	for (size_t i = 0; i < strlen(text); i++) {
		ck_assert_int_lt(snapshot_manifest_parse(&again, text, i, &err), 0);
		ck_assert_int_eq(err.kind, ERROR_CORRUPT);
	}
}
END_TEST

/* With its checksum right again, as one who can write would leave it. */
static void put_checksum(json_t *object)
{
	char sum[CHECKSUM_TEXT_SIZE];
	char *plain;

	json_object_del(object, "checksum");
	plain = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
	checksum_format(checksum_of(plain, strlen(plain)), sum);
	json_object_set_new(object, "checksum", json_string(sum));
	free(plain);
	free(text);
	text = json_dumps(object, 0);
}

/* The member `place` ("memory.area.unit", "parts.1.size") becomes `value` (NULL: goes). */
static void change(const char *place, json_t *value)
{
	_cleanup_free_ char *copy = strdup(place);
	char *rest = copy, *key;
	json_t *object, *at;

	free(text);
	MUST(snapshot_manifest_format(&manifest, &text, &err));
	object = at = json_loads(text, 0, NULL);
	for (key = strsep(&rest, "."); rest; key = strsep(&rest, "."))
		at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key))
				       : json_object_get(at, key);
	if (value)
		json_object_set_new(at, key, value);
	else
		json_object_del(at, key);
	put_checksum(object);
	json_decref(object);
}

static void refused(enum error_kind kind, const char *words)
{
	ck_assert_int_lt(snapshot_manifest_parse(&again, text, strlen(text), &err), 0);
	ck_assert_msg(err.kind == kind && strstr(err.text, words), "%s", err.text);
}

START_TEST(what_cannot_be_is_refused_by_its_name)
{
	static const struct {
		const char *place, *value, *words;
	} cases[] = {
		{"id", "\"nonsense\"", "id"},
		{"id", "\"" PARENT "\"", "id"},
		{"id", "\"" PARENT PARENT "\"", "id"},
		{"id", NULL, "id"},
		{"parent", NULL, "incremental"},
		{"kind", "\"full\"", "incremental"},
		{"parent.folder", "\"\"", "parent.folder"},
		{"memory.regions.0.size", "4095", "region"},
		{"memory.regions.0.size", "9223372036854775807", "region"},
		{"memory.regions.1.gpa", "0", "region"},
		{"memory.regions", "[]", "regions"},
		{"memory.area.unit", "4097", "area"},
		{"memory.area.unit", "4096", "area"},
		{"memory.area.present", "\"0xfz\"", "plugged"},
		{"memory.area.present", "\"15\"", "plugged"},
		{"memory.area.present", "\"0x1ffffffffffffffff\"", "plugged"},
		{"memory.area.size", "4194304", "plugged"},
		{"memory.data_pages", "9223372036854775807", "pages"},
		{"parts.0.name", "\"memory\"", "twice"},
		{"parts.0.name", "\"../state\"", "parts[0].name"},
		{"parts.0.name", "\"manifest.json\"", "manifest.json"},
		{"parts.0.checksum", NULL, "state"},
		{"parts.0.check", "\"size\"", "state"},
		{"parts.1.size", "4096", "memory"},
		{"parts.1.check", "\"whole\"", "memory"},
		{"parts.3.name", "\"other\"", "pages"},
		{"parts.3.size", "-1", "parts[3].size"},
		{"compression", "\"zstd\"", "memory"},
		{"disks.0.file", "\"elsewhere\"", "vda"},
		{"disks.0.id", "\"vdb\"", "vdb"},
		{"disks.1.file", "\"state\"", "vdb"},
		{"machine", "[]", "machine"},
		{"more", "1", "more"},
		{"format", "0", "format"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *value =
			cases[i].value ? json_loads(cases[i].value, JSON_DECODE_ANY, NULL) : NULL;

		change(cases[i].place, value);
		refused(ERROR_CORRUPT, cases[i].words);
	}
}
END_TEST

START_TEST(a_later_format_is_named_and_not_called_corrupt)
{
	change("format", json_integer(SNAPSHOT_FORMAT + 1));
	refused(ERROR_INCOMPATIBLE, "format");
	ck_assert_ptr_nonnull(strstr(err.hint, "version"));
}
END_TEST

START_TEST(a_key_twice_and_what_is_no_object_are_refused)
{
	static const char *const texts[] = {"", "[]", "1", "{\"format\":1,\"format\":1}", "{}", "{",
		"null", "{\"format\":1,\"checksum\":3}"};

	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		ck_assert_int_lt(
			snapshot_manifest_parse(&again, texts[i], strlen(texts[i]), &err), 0);
		ck_assert_int_eq(err.kind, ERROR_CORRUPT);
	}
}
END_TEST

START_TEST(what_could_not_be_read_again_is_not_written)
{
	manifest.parts[0].check = SNAPSHOT_CHECK_SIZE;
	ck_assert_int_lt(snapshot_manifest_format(&manifest, &text, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_INTERNAL);
	ck_assert_ptr_null(text);
}
END_TEST

START_TEST(two_snapshots_never_have_one_id)
{
	MUST(snapshot_manifest_init(&again, &err));
	ck_assert_uint_eq(strlen(again.id), 32);
	ck_assert_str_ne(again.id, manifest.id);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("manifest");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, what_is_written_is_read_back_the_same);
	tcase_add_test(tc, no_flipped_bit_goes_unnoticed);
	tcase_add_test(tc, a_manifest_that_ends_early_is_refused);
	tcase_add_test(tc, what_cannot_be_is_refused_by_its_name);
	tcase_add_test(tc, a_later_format_is_named_and_not_called_corrupt);
	tcase_add_test(tc, a_key_twice_and_what_is_no_object_are_refused);
	tcase_add_test(tc, what_could_not_be_read_again_is_not_written);
	tcase_add_test(tc, two_snapshots_never_have_one_id);
	return run_tests("snapshot_manifest", tc, NULL);
}
