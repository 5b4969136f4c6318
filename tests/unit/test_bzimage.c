/* SPDX-License-Identifier: Apache-2.0 */
/* bzImage: the setup header is believed only as far as it has been checked. */
#include "tests/unit/kernel_image.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/boot/bzimage.h"

#include <check.h>
#include <string.h>

static struct guest_memory memory;
static struct kernel_ram ram;
static struct test_bzimage image;
static struct setup_header *header;
static struct test_file tf;
static struct error err;

static void setup(void)
{
	test_ram_create(&memory, &ram);
	header = test_bzimage_header(&image);
	test_bzimage_build(&image);
	test_file_create(&tf, &image, sizeof(image));
}

static void teardown(void)
{
	test_file_close(&tf);
	guest_memory_destroy(&memory);
}

static int load(struct kernel_image *loaded, struct setup_header *h)
{
	struct boot_file file;
	int ret = boot_file_open(&file, "kernel", tf.path, &err);

	if (ret == 0)
		ret = bzimage_load(&file, &ram, loaded, h, &err);
	boot_file_close(&file);
	return ret;
}

static void refused_in_words(const char *words)
{
	struct kernel_image loaded;
	struct setup_header h;

	ck_assert_msg(load(&loaded, &h) < 0, "loaded, instead of: %s", words);
	ck_assert_msg(strstr(err.text, words), "'%s' does not say '%s'", err.text, words);
	ck_assert_ptr_null(strchr(err.text, '\n'));
}

static void refused(const char *words)
{
	test_file_write(&tf, &image, sizeof(image));
	refused_in_words(words);
	ck_assert(test_ram_untouched(&memory, 0, RAM_SIZE));
	test_bzimage_build(&image);
}

START_TEST(the_protected_part_is_loaded_at_its_preferred_address_and_entered_at_200)
{
	struct kernel_image loaded;
	struct setup_header h;

	ck_assert_msg(load(&loaded, &h) == 0, "%s", err.text);
	ck_assert_uint_eq(loaded.start, 0x1000000);
	ck_assert_uint_eq(loaded.entry, 0x1000200);
	ck_assert_uint_eq(loaded.end, 0x1000000 + BZIMAGE_INIT_SIZE);
	ck_assert(!loaded.pvh);
	ck_assert(!memcmp(
		guest_memory_view(&memory, loaded.start, BZIMAGE_SIZE), image.code, BZIMAGE_SIZE));
	ck_assert(test_ram_untouched(&memory, 0, loaded.start));
	ck_assert(test_ram_untouched(
		&memory, loaded.start + BZIMAGE_SIZE, RAM_SIZE - loaded.start - BZIMAGE_SIZE));
	ck_assert_uint_eq(h.initrd_addr_max, 0x7fffffff);
	ck_assert_uint_eq(h.kernel_info_offset, 0);
}
END_TEST

START_TEST(only_the_bytes_of_the_header_itself_are_taken)
{
	struct kernel_image loaded;
	struct setup_header h;

	/* An older, shorter header: what follows it in the file is code, not fields. */
	image.setup[0x201] = 0x66;
	memset(image.setup + 0x202 + 0x66, 0xee, 16);
	test_file_write(&tf, &image, sizeof(image));
	ck_assert_msg(load(&loaded, &h) == 0, "%s", err.text);
	ck_assert_uint_eq(h.kernel_info_offset, 0);
}
END_TEST

START_TEST(no_setup_sectors_means_four)
{
	static uint8_t big[5 * 512 + BZIMAGE_SIZE];
	struct kernel_image loaded;
	struct setup_header h;

	header->setup_sects = 0;
	memcpy(big, image.setup, sizeof(image.setup));
	memcpy(big + 5 * 512, image.code, BZIMAGE_SIZE);
	test_file_write(&tf, big, sizeof(big));
	ck_assert_msg(load(&loaded, &h) == 0, "%s", err.text);
	ck_assert(!memcmp(
		guest_memory_view(&memory, loaded.start, BZIMAGE_SIZE), image.code, BZIMAGE_SIZE));
}
END_TEST

START_TEST(a_header_that_makes_no_sense_is_refused_before_ram_is_touched)
{
	header->header = 0;
	refused("has a damaged setup header");
	header->boot_flag = 0;
	refused("has a damaged setup header");
	image.setup[0x201] = 0x10;
	refused("has a damaged setup header");
	header->version = 0x020b;
	refused("speaks boot protocol 2.11; at least 2.12");
	header->loadflags = 0;
	refused("is a zImage");
	header->xloadflags = 0;
	refused("is a 32-bit x86 kernel; this host runs x86_64");
	header->kernel_alignment = 0;
	refused("has a damaged setup header");
	header->kernel_alignment = 0x300000;
	refused("has a damaged setup header");
	header->pref_address = 0x1000001;
	refused("has a damaged setup header");
	header->init_size = 0;
	refused("has a damaged setup header");
	header->init_size = 0xffffffff;
	refused("has a damaged setup header");
	header->init_size = BZIMAGE_SIZE - 16;
	refused("has a damaged setup header");
	header->syssize = 0;
	refused("has a damaged setup header");
	header->syssize = 0x20; /* up to the entry, nothing there */
	refused("has a damaged setup header");
}
END_TEST

START_TEST(a_kernel_that_does_not_fit_is_refused_with_the_ram_that_it_would_need)
{
	header->init_size = (uint32_t)MIB(16) + 1;
	refused("needs RAM up to 33 MiB, but the machine has 32 MiB there");
	header->pref_address = 0;
	refused("wants to be at 0x0");
	header->pref_address = 0xffffffffffe00000;
	refused("where no kernel can be");
}
END_TEST

START_TEST(a_file_cut_off_anywhere_is_refused)
{
	for (size_t len = 0x202; len < sizeof(image); len += len < 0x280 ? 1 : 101) {
		test_file_write(&tf, &image, len);
		refused_in_words("truncated");
	}
	test_file_write(&tf, &image, sizeof(image) - 1);
	refused_in_words("is truncated: it has 13311 bytes of 13312");
	ck_assert(test_ram_untouched(&memory, 0, RAM_SIZE));
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("bzImage");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(
		tc, the_protected_part_is_loaded_at_its_preferred_address_and_entered_at_200);
	tcase_add_test(tc, only_the_bytes_of_the_header_itself_are_taken);
	tcase_add_test(tc, no_setup_sectors_means_four);
	tcase_add_test(tc, a_header_that_makes_no_sense_is_refused_before_ram_is_touched);
	tcase_add_test(tc, a_kernel_that_does_not_fit_is_refused_with_the_ram_that_it_would_need);
	tcase_add_test(tc, a_file_cut_off_anywhere_is_refused);
	return run_tests("bzimage", tc, NULL);
}
