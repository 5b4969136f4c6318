/* SPDX-License-Identifier: Apache-2.0 */
/* ELF kernels and initial ramdisks: what is loaded is what the file says, and a bad file is one clear line. */
#include "tests/unit/kernel_image.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/boot/elf.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct guest_memory memory;
static struct kernel_ram ram;
static struct test_elf elf;
static struct test_file tf;
static struct error err;

static void setup(void)
{
	test_ram_create(&memory, &ram);
	test_elf_build(&elf);
	test_file_create(&tf, &elf, sizeof(elf));
}

static void teardown(void)
{
	test_file_close(&tf);
	guest_memory_destroy(&memory);
}

static int load(struct kernel_image *image)
{
	struct boot_file file;
	int ret = boot_file_open(&file, "kernel", tf.path, &err);

	if (ret == 0)
		ret = elf_load(&file, EM_X86_64, &ram, image, &err);
	boot_file_close(&file);
	return ret;
}

static void save_and_load(struct kernel_image *image)
{
	test_file_write(&tf, &elf, sizeof(elf));
	ck_assert_msg(load(image) == 0, "%s", err.text);
}

/* The file as it is now must be refused with `words` on one line. */
static void refused_in_words(const char *words)
{
	struct kernel_image image;

	ck_assert_msg(load(&image) < 0, "loaded, instead of: %s", words);
	ck_assert_msg(strstr(err.text, words), "'%s' does not say '%s'", err.text, words);
	ck_assert_ptr_null(strchr(err.text, '\n'));
}

/* The image as it is now must be refused, RAM be left alone; the image is whole again then. */
static void refused(const char *words)
{
	test_file_write(&tf, &elf, sizeof(elf));
	refused_in_words(words);
	ck_assert(test_ram_untouched(&memory, 0, RAM_SIZE));
	test_elf_build(&elf);
}

static bool zeros(uint64_t gpa, uint64_t len)
{
	const uint8_t *view = guest_memory_view(&memory, gpa, len);

	return view[0] == 0 && !memcmp(view, view + 1, len - 1);
}

START_TEST(segments_go_to_their_physical_addresses_and_nowhere_else)
{
	struct kernel_image image;
	const uint8_t *text, *data;
	uint64_t data_end = ELF_DATA_GPA + sizeof(elf.data) + ELF_TAIL_SIZE;

	save_and_load(&image);
	text = guest_memory_view(&memory, ELF_TEXT_GPA, ELF_TEXT_SIZE);
	data = guest_memory_view(&memory, ELF_DATA_GPA, sizeof(elf.data));
	ck_assert(!memcmp(text, elf.text, sizeof(elf.text)));
	ck_assert(!memcmp(data, elf.data, ELF_DATA_SIZE));
	ck_assert(!memcmp(data + ELF_DATA_SIZE + ELF_BSS_SIZE,
		elf.data + ELF_DATA_SIZE + ELF_BSS_SIZE, ELF_DATA_SIZE));
	ck_assert(test_ram_untouched(&memory, 0, ELF_TEXT_GPA));
	ck_assert(test_ram_untouched(&memory, ELF_TEXT_GPA + ELF_TEXT_SIZE,
		ELF_DATA_GPA - ELF_TEXT_GPA - ELF_TEXT_SIZE));
	ck_assert(test_ram_untouched(&memory, data_end, RAM_SIZE - data_end));
	ck_assert_uint_eq(image.start, ELF_TEXT_GPA);
	ck_assert_uint_eq(image.end, data_end);
}
END_TEST

START_TEST(bss_is_zero_in_dirty_ram_behind_a_segment_and_in_its_midst)
{
	struct kernel_image image;

	save_and_load(&image);
	ck_assert(zeros(ELF_DATA_GPA + sizeof(elf.data), ELF_TAIL_SIZE));
	/* The file has other bytes there: a section called NOBITS has none. */
	ck_assert(zeros(ELF_DATA_GPA + ELF_DATA_SIZE, ELF_BSS_SIZE));
}
END_TEST

START_TEST(a_file_without_section_headers_is_loaded_byte_for_byte)
{
	struct kernel_image image;

	elf.header.e_shnum = 0;
	save_and_load(&image);
	ck_assert(!memcmp(guest_memory_view(&memory, ELF_DATA_GPA, sizeof(elf.data)), elf.data,
		sizeof(elf.data)));
}
END_TEST

START_TEST(fresh_ram_is_not_cleared_again)
{
	struct kernel_image image;

	ram.fresh = true;
	save_and_load(&image);
	ck_assert(test_ram_untouched(&memory, ELF_DATA_GPA + sizeof(elf.data), ELF_TAIL_SIZE));
	ck_assert(test_ram_untouched(&memory, ELF_DATA_GPA + ELF_DATA_SIZE, ELF_BSS_SIZE));
}
END_TEST

/* ---- sparse files ---- */

/* The image anew, with zeros in its data's midst that no section header tells of. Its bytes from `start` to `end`. */
static void build_zeros(size_t *start, size_t *end)
{
	*start = offsetof(struct test_elf, data) + ELF_DATA_SIZE;
	*end = *start + ELF_BSS_SIZE;
	elf.header.e_shnum = 0;
	memset((uint8_t *)&elf + *start, 0, *end - *start);
}

/* The file with a hole where it has zeros: whole pages only, as file systems have it. */
static void save_sparse(size_t *start, size_t *end)
{
	build_zeros(start, end);
	*start = align_up(*start, 4096);
	*end = align_down(*end, 4096);
	test_file_write(&tf, &elf, sizeof(elf));
	test_file_dig(&tf, *start, *end - *start);
}

START_TEST(a_sparse_file_is_loaded_like_a_dense_one_into_dirty_ram)
{
	_cleanup_free_ uint8_t *dense = malloc(RAM_SIZE);
	struct kernel_image image;
	size_t start, end;

	build_zeros(&start, &end);
	save_and_load(&image);
	memcpy(dense, guest_memory_view(&memory, 0, RAM_SIZE), RAM_SIZE);
	test_ram_soil(&memory);
	save_sparse(&start, &end);
	ck_assert_msg(load(&image) == 0, "%s", err.text);
	ck_assert(!memcmp(dense, guest_memory_view(&memory, 0, RAM_SIZE), RAM_SIZE));
}
END_TEST

START_TEST(the_hole_of_a_sparse_file_is_not_read)
{
	uint64_t gpa = ELF_DATA_GPA - offsetof(struct test_elf, data);
	struct kernel_image image;
	size_t start, end;

	save_sparse(&start, &end);
	ram.fresh = true; /* so that RAM keeps its dirt where nothing is read */
	ck_assert_msg(load(&image) == 0, "%s", err.text);
	ck_assert(test_ram_untouched(&memory, gpa + start, end - start));
	ck_assert(zeros(gpa + start - 1, 1));
	ck_assert(zeros(gpa + end, 1));
}
END_TEST

static void load_range(const uint8_t *bytes, size_t size, size_t offset, size_t len)
{
	struct boot_file file;

	ck_assert_int_eq(boot_file_open(&file, "kernel", tf.path, &err), 0);
	ck_assert_uint_eq(file.size, size);
	test_ram_soil_range(&memory, MIB(2) - 64, len + 128);
	ck_assert_int_eq(kernel_ram_load(&ram, &file, offset, MIB(2), len, &err), 0);
	boot_file_close(&file);
	ck_assert(!len || !memcmp(guest_memory_view(&memory, MIB(2), len), bytes + offset, len));
	ck_assert(test_ram_untouched(&memory, MIB(2) - 64, 64));
	ck_assert(test_ram_untouched(&memory, MIB(2) + len, 64));
}

START_TEST(whatever_holes_a_file_has_each_range_of_it_is_loaded_whole)
{
	const size_t size = MIB(2);
	_cleanup_free_ uint8_t *bytes = malloc(size);

	srand(1);
	for (unsigned round = 0; round < 100; round++) {
		memset(bytes, 0x33, size);
		test_file_write(&tf, bytes, size);
		/* Every third round many small ones: more than are looked at. */
		for (unsigned i = 0; i < (round % 3 ? 10 : 60); i++) {
			size_t at = (size_t)rand() % 512 * 4096;
			size_t len = 4096 * (1 + (size_t)rand() % (round % 3 ? 64 : 4));

			len = min_u64(len, size - at);
			memset(bytes + at, 0, len);
			test_file_dig(&tf, at, len);
		}
		load_range(bytes, size, 0, size);
		for (unsigned i = 0; i < 10; i++) {
			size_t offset = (size_t)rand() % size;

			load_range(bytes, size, offset, (size_t)rand() % (size - offset));
		}
	}
}
END_TEST

START_TEST(a_sparse_file_that_shrinks_gives_an_error)
{
	struct boot_file file;
	size_t start, end;

	save_sparse(&start, &end);
	ck_assert_int_eq(boot_file_open(&file, "kernel", tf.path, &err), 0);
	/* Into what was behind the hole, the hole, and what was before it. */
	for (unsigned i = 0; i < 3; i++) {
		const off_t sizes[] = {(off_t)end + 1, (off_t)end - 1, (off_t)start - 1};

		ck_assert_int_eq(ftruncate(tf.fd, sizes[i]), 0);
		ck_assert_int_lt(kernel_ram_load(&ram, &file, 0, MIB(2), sizeof(elf), &err), 0);
		ck_assert_ptr_nonnull(strstr(err.text, "shrank while it was read"));
	}
	boot_file_close(&file);
}
END_TEST

START_TEST(linux_starts_at_its_own_entry_and_others_by_pvh_where_they_have_it)
{
	struct kernel_image image;

	save_and_load(&image);
	ck_assert_uint_eq(image.entry, ELF_ENTRY);
	ck_assert(!image.pvh);

	memcpy(elf.os.text, "other", 6);
	save_and_load(&image);
	ck_assert_uint_eq(image.entry, ELF_PVH_ENTRY);
	ck_assert(image.pvh);

	elf.pvh.header.n_descsz = 4; /* 32 bits: newer kernels have it so */
	save_and_load(&image);
	ck_assert_uint_eq(image.entry, ELF_PVH_ENTRY);

	elf.pvh.header.n_type = 17; /* some other note */
	save_and_load(&image);
	ck_assert_uint_eq(image.entry, ELF_ENTRY);
	ck_assert(!image.pvh);

	elf.header.e_phnum = 2; /* no notes at all */
	save_and_load(&image);
	ck_assert_uint_eq(image.entry, ELF_ENTRY);
}
END_TEST

START_TEST(damaged_notes_are_passed_over)
{
	static const uint32_t sizes[] = {0xffffffff, 0xfffffffc, 0x7fffffff, 0x1000, 9, 3, 0};
	struct kernel_image image;

	memcpy(elf.os.text, "other", 6);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		elf.pvh.header.n_descsz = sizes[i];
		save_and_load(&image);
		ck_assert(!image.pvh);
	}
	elf.pvh.header.n_descsz = 8;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		elf.os.header.n_namesz = sizes[i];
		save_and_load(&image);
	}
}
END_TEST

START_TEST(a_kernel_of_another_architecture_is_named)
{
	static const struct {
		uint16_t machine;
		bool big;
		const char *words;
	} others[] = {
		{EM_AARCH64, false, "is for arm64; this host runs x86_64"},
		{EM_RISCV, false, "is for riscv; this host runs x86_64"},
		{EM_PPC64, false, "is for powerpc64; this host runs x86_64"},
		{EM_S390, true, "is for s390x; this host runs x86_64"},
		{EM_386, false, "is for 32-bit x86; this host runs x86_64"},
		{EM_ARM, false, "is for 32-bit arm; this host runs x86_64"},
		{0x1234, false, "is for ELF machine 4660; this host runs x86_64"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		elf.header.e_machine = others[i].machine;
		if (others[i].big) {
			elf.header.e_ident[EI_DATA] = ELFDATA2MSB;
			elf.header.e_machine = __builtin_bswap16(others[i].machine);
		}
		refused(others[i].words);
	}
	elf.header.e_ident[EI_CLASS] = ELFCLASS32;
	refused("is not a 64-bit little-endian ELF file");
}
END_TEST

START_TEST(a_header_that_makes_no_sense_is_refused_before_ram_is_touched)
{
	elf.header.e_type = ET_REL;
	refused("not an executable one");
	elf.header.e_phnum = 0;
	refused("has no usable program headers");
	elf.header.e_phnum = 0xffff;
	refused("has no usable program headers");
	elf.header.e_phentsize = 32;
	refused("has no usable program headers");
	elf.header.e_phoff = UINT64_MAX - 8;
	refused("is truncated");
	elf.header.e_shoff = UINT64_MAX - 8;
	refused("is truncated");
	elf.segments[0].p_type = PT_INTERP;
	refused("is a program, not a kernel");
	elf.segments[0].p_type = elf.segments[1].p_type = PT_NULL;
	refused("has nothing to load");
	elf.segments[1].p_memsz = elf.segments[1].p_filesz - 1;
	refused("has a segment with more bytes than memory");
	elf.segments[1].p_offset = UINT64_MAX;
	refused("is truncated");
	elf.segments[1].p_paddr = ELF_TEXT_GPA + ELF_TEXT_SIZE - 1;
	refused("has segments that overlap at 0x201233");
	elf.header.e_entry = ELF_TEXT_GPA - 1;
	refused("starts at 0x1fffff, where it has no code");
	elf.header.e_entry = 0;
	refused("starts at 0x0, where it has no code");
	memcpy(elf.os.text, "other", 6);
	elf.pvh.value = UINT64_MAX;
	refused("starts at 0xffffffffffffffff, where it has no code");
}
END_TEST

START_TEST(a_segment_outside_ram_is_refused_with_the_ram_that_it_would_need)
{
	elf.segments[0].p_paddr = RAM_START - 1;
	refused("wants to be at 0xfffff");
	elf.segments[0].p_paddr = UINT64_MAX - 0x100;
	refused("where no kernel can be");
	elf.segments[0].p_paddr = GIB(3) - 0x1000;
	refused("where no kernel can be");
	elf.segments[1].p_memsz = UINT64_MAX;
	refused("where no kernel can be");
	elf.segments[0].p_paddr = RAM_SIZE - ELF_TEXT_SIZE + 1;
	refused("needs RAM up to 33 MiB, but the machine has 32 MiB there");
	ck_assert(strstr(err.hint, "--memory"));
}
END_TEST

START_TEST(a_file_cut_off_anywhere_is_refused)
{
	for (size_t len = 0; len < sizeof(elf); len++) {
		/* All of the headers byte by byte; of the contents, which only count, some. */
		if (len >= offsetof(struct test_elf, text) && len + 200 < sizeof(elf) && len % 4093)
			continue;
		test_file_write(&tf, &elf, len);
		refused_in_words(len ? "truncated" : "is empty");
	}
	ck_assert(test_ram_untouched(&memory, 0, RAM_SIZE));
}
END_TEST

START_TEST(whatever_the_headers_say_nothing_outside_the_kernels_ram_is_written)
{
	uint8_t *bytes = (uint8_t *)&elf;
	struct kernel_image image;
	unsigned loaded = 0;

	srand(1);
	ram.end = MIB(16);
	for (unsigned round = 0; round < 4000; round++) {
		for (unsigned i = 0; i < 1 + (unsigned)rand() % 3; i++)
			bytes[(size_t)rand() % offsetof(struct test_elf, text)] = (uint8_t)rand();
		test_file_write(&tf, &elf, sizeof(elf));
		if (load(&image) == 0) {
			loaded++;
			ck_assert_uint_ge(image.start, ram.start);
			ck_assert_uint_le(image.end, ram.end);
			ck_assert(image.entry >= image.start && image.entry < image.end);
		}
		if (round % 200 == 0) {
			ck_assert(test_ram_untouched(&memory, 0, ram.start));
			ck_assert(test_ram_untouched(&memory, ram.end, RAM_SIZE - ram.end));
		}
		test_elf_build(&elf);
	}
	ck_assert_uint_gt(loaded, 100); /* else this proves nothing */
}
END_TEST

/* ---- kinds of files ---- */

static void kind_refused(const void *data, size_t len, const char *words)
{
	struct boot_file file;
	enum kernel_kind kind;

	test_file_write(&tf, data, len);
	ck_assert_int_eq(boot_file_open(&file, "kernel", tf.path, &err), 0);
	ck_assert_int_lt(kernel_detect(&file, &kind, &err), 0);
	ck_assert_msg(strstr(err.text, words), "'%s' does not say '%s'", err.text, words);
	boot_file_close(&file);
}

START_TEST(what_is_no_kernel_is_told_by_its_magic)
{
	char image[64] = {0};

	kind_refused("\x1f\x8b\x08", 3, "is compressed with gzip: unpack it first");
	kind_refused("\xfd"
		     "7zXZ\0",
		6, "is compressed with xz: unpack it first");
	kind_refused("\x28\xb5\x2f\xfd", 4, "is compressed with zstd: unpack it first");
	kind_refused("MZ\0\0zimg", 8, "self-unpacking EFI image");
	kind_refused("MZ\0\0", 4, "is an EFI program");
	kind_refused("#!/bin/sh\n", 10, "is not a kernel: neither an ELF vmlinux nor a bzImage");
	kind_refused("x", 1, "is not a kernel");
	memcpy(image + 0x38, "RSC\x05", 4);
	kind_refused(image, sizeof(image), "is a riscv kernel");
}
END_TEST

START_TEST(kernels_are_told_by_their_magic)
{
	uint8_t bytes[0x210] = "MZ";
	struct boot_file file;
	enum kernel_kind kind;

	ck_assert_int_eq(boot_file_open(&file, "kernel", tf.path, &err), 0);
	ck_assert_int_eq(kernel_detect(&file, &kind, &err), 0);
	ck_assert_int_eq(kind, KERNEL_ELF);
	memcpy(bytes + 0x38, "ARM\x64", 4);
	test_file_write(&tf, bytes, sizeof(bytes));
	file.size = sizeof(bytes);
	ck_assert_int_eq(kernel_detect(&file, &kind, &err), 0);
	ck_assert_int_eq(kind, KERNEL_ARM64_IMAGE);
	memcpy(bytes + 0x202, "HdrS", 4);
	test_file_write(&tf, bytes, sizeof(bytes));
	ck_assert_int_eq(kernel_detect(&file, &kind, &err), 0);
	ck_assert_int_eq(kind, KERNEL_BZIMAGE);
	boot_file_close(&file);
}
END_TEST

START_TEST(what_is_no_file_with_something_in_it_is_refused_at_once)
{
	char dir[] = "/tmp/test_elf.XXXXXX", fifo[64];
	struct boot_file file;

	ck_assert_int_lt(boot_file_open(&file, "kernel", "/nowhere/vmlinux", &err), 0);
	ck_assert_str_eq(
		err.text, "cannot open kernel '/nowhere/vmlinux': No such file or directory");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_lt(boot_file_open(&file, "initrd", dir, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "is a directory"));
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	ck_assert_int_lt(
		boot_file_open(&file, "initrd", fifo, &err), 0); /* nobody writes: must not wait */
	ck_assert_ptr_nonnull(strstr(err.text, "is not a regular file"));
	unlink(fifo);
	rmdir(dir);
	test_file_write(&tf, "", 0);
	ck_assert_int_lt(boot_file_open(&file, "initrd", tf.path, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "is empty"));
}
END_TEST

START_TEST(a_file_that_shrinks_while_it_is_read_gives_an_error)
{
	struct boot_file file;
	char bytes[16];

	ck_assert_int_eq(boot_file_open(&file, "kernel", tf.path, &err), 0);
	test_file_write(&tf, "short", 5);
	ck_assert_int_lt(boot_file_read(&file, 0, bytes, sizeof(bytes), &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "shrank while it was read"));
	boot_file_close(&file);
}
END_TEST

/* ---- initial ramdisks ---- */

static int load_initrd(size_t size, uint64_t limit, uint64_t *gpa)
{
	const struct kernel_image image = {.start = MIB(2), .end = MIB(20) + 1};
	_cleanup_free_ uint8_t *data = malloc(size);
	struct boot_file file;
	int ret;

	memset(data, 0x11, size);
	test_file_write(&tf, data, size);
	ck_assert_int_eq(boot_file_open(&file, "initrd", tf.path, &err), 0);
	ret = initrd_load(&file, &ram, &image, limit, gpa, &err);
	boot_file_close(&file);
	return ret;
}

START_TEST(an_initrd_goes_to_the_top_of_ram_or_below_the_kernels_limit)
{
	uint64_t gpa;

	ck_assert_int_eq(load_initrd(5000, GIB(2), &gpa), 0);
	ck_assert_uint_eq(gpa, RAM_SIZE - 8192);
	ck_assert(!test_ram_untouched(&memory, gpa, 1));
	ck_assert(test_ram_untouched(&memory, gpa + 5000, 3192));
	ck_assert(test_ram_untouched(&memory, 0, gpa));
	ck_assert_int_eq(load_initrd(4096, MIB(24) + 5, &gpa), 0);
	ck_assert_uint_eq(gpa, MIB(24) - 4096);
}
END_TEST

START_TEST(an_initrd_that_does_not_fit_is_refused_with_the_sizes)
{
	uint64_t gpa;

	ck_assert_int_eq(load_initrd(MIB(12) - 4096, GIB(2), &gpa), 0);
	ck_assert_uint_eq(gpa, MIB(20) + 4096); /* right behind the kernel's last page */
	test_ram_soil(&memory);
	ck_assert_int_lt(load_initrd(MIB(12) - 4095, GIB(2), &gpa), 0);
	ck_assert_ptr_nonnull(
		strstr(err.text, "does not fit: it has 12285 KiB, and there are 12284 KiB"));
	ck_assert_ptr_nonnull(strstr(err.hint, "--memory"));
	ck_assert_int_lt(load_initrd(1, MIB(20), &gpa), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "there are 0 KiB"));
	ck_assert(test_ram_untouched(&memory, 0, RAM_SIZE));
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("kernel files");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, segments_go_to_their_physical_addresses_and_nowhere_else);
	tcase_add_test(tc, bss_is_zero_in_dirty_ram_behind_a_segment_and_in_its_midst);
	tcase_add_test(tc, a_file_without_section_headers_is_loaded_byte_for_byte);
	tcase_add_test(tc, fresh_ram_is_not_cleared_again);
	tcase_add_test(tc, a_sparse_file_is_loaded_like_a_dense_one_into_dirty_ram);
	tcase_add_test(tc, the_hole_of_a_sparse_file_is_not_read);
	tcase_add_test(tc, whatever_holes_a_file_has_each_range_of_it_is_loaded_whole);
	tcase_add_test(tc, a_sparse_file_that_shrinks_gives_an_error);
	tcase_add_test(tc, linux_starts_at_its_own_entry_and_others_by_pvh_where_they_have_it);
	tcase_add_test(tc, damaged_notes_are_passed_over);
	tcase_add_test(tc, a_kernel_of_another_architecture_is_named);
	tcase_add_test(tc, a_header_that_makes_no_sense_is_refused_before_ram_is_touched);
	tcase_add_test(tc, a_segment_outside_ram_is_refused_with_the_ram_that_it_would_need);
	tcase_add_test(tc, a_file_cut_off_anywhere_is_refused);
	tcase_add_test(tc, whatever_the_headers_say_nothing_outside_the_kernels_ram_is_written);
	tcase_add_test(tc, what_is_no_kernel_is_told_by_its_magic);
	tcase_add_test(tc, kernels_are_told_by_their_magic);
	tcase_add_test(tc, what_is_no_file_with_something_in_it_is_refused_at_once);
	tcase_add_test(tc, a_file_that_shrinks_while_it_is_read_gives_an_error);
	tcase_add_test(tc, an_initrd_goes_to_the_top_of_ram_or_below_the_kernels_limit);
	tcase_add_test(tc, an_initrd_that_does_not_fit_is_refused_with_the_sizes);
	return run_tests("elf", tc, NULL);
}
