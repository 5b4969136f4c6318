/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is filled while it is used: whoever reads finds what the source has or what was written since, never zeros
 * in its place; and where the source fails nobody reads anything.
 */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/memory/pages.h"
#include "vmm/memory/uffd.h"
#include "vmm/transfer/background.h"
#include "vmm/transfer/ondemand.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE  GUEST_PAGE_SIZE
#define UNIT  MIB(2)
#define AREA  GIB(8)
#define USERS 3u
#define LANE  64u /* bytes of each page that are one user's alone */

/* What orders the threads here is the kernel, as in test_background.c. */
#define GUEST __attribute__((no_sanitize("thread")))

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FILTER SECCOMP_ON
#else
#define FILTER SECCOMP_OFF
#endif

static struct guest_memory memory;
static struct error err;
static uint64_t pages;

static void make_memory(enum memory_pages kind)
{
	const struct guest_memory_config config = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = MIB(6)}, {.gpa = GIB(4), .size = MIB(3) + 3 * PAGE}},
		.area_gpa = AREA,
		.area_size = 4 * UNIT,
		.area_unit = UNIT,
		.pages = kind,
	};

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	ck_assert_int_eq(guest_memory_plug(&memory, 1, &err), 0);
	pages = guest_memory_pages(&memory);
}

static uint8_t *host_of(uint64_t page)
{
	for (unsigned i = 0; i < guest_memory_piece_count(&memory); i++) {
		struct page_range piece = guest_memory_piece(&memory, i);

		if (guest_memory_piece_present(&memory, i) && page - piece.first < piece.count)
			return piece.host + (page - piece.first) * PAGE;
	}
	return NULL;
}

/* A third of all pages are zero. */
static void content(uint64_t page, uint8_t *to)
{
	for (unsigned i = 0; i < PAGE; i++)
		to[i] = page % 3 ? (uint8_t)(page * 7 + i * 13 + (i >> 8) + 1) : 0;
}

struct source {
	_Atomic uint64_t reads;
	_Atomic bool go; /* read nothing before */
	uint64_t broken; /* a window that cannot be read; GUEST_PAGE_NONE: all can */
	_Atomic unsigned told;
	_Atomic uint64_t touched; /* the first page that somebody waited for */
	struct error why;
};

#define WINDOW 64u

static int read_source(void *owner, uint64_t first, uint64_t count, uint8_t *to, struct error *why)
{
	struct source *source = owner;

	while (!source->go)
		sched_yield();
	source->reads++;
	ck_assert_uint_le(count, WINDOW);
	if (first / WINDOW == source->broken)
		return error_set(why, ERROR_CORRUPT, "the source is damaged");
	for (uint64_t i = 0; i < count; i++)
		content(first + i, to + i * PAGE);
	return 0;
}

static void tell(void *owner, const struct error *why)
{
	struct source *source = owner;

	source->why = *why;
	source->told++;
}

static void note_touch(void *owner, uint64_t page)
{
	struct source *source = owner;
	uint64_t none = 0;

	atomic_compare_exchange_strong(&source->touched, &none, page);
}

static struct ondemand *start(struct source *source)
{
	const struct ondemand_config config = {
		.read = read_source,
		.failed = tell,
		.touched = note_touch,
		.owner = source,
		.window = WINDOW,
		.seccomp = FILTER,
		.device = -1,
	};
	struct ondemand *od;

	ck_assert_msg(ondemand_start(&od, &memory, &config, &err) == 0, "%s", err.text);
	return od;
}

static void wait_complete(struct ondemand *od)
{
	struct ondemand_progress progress;

	do {
		sched_yield();
		ondemand_progress(od, &progress);
	} while (!progress.complete);
	ck_assert_uint_eq(progress.filled, progress.windows);
}

/* Users read and write, each its own bytes of every page. */
static _Atomic bool stop;
static uint8_t *written[USERS]; /* what each wrote last to each page, 0: nothing */

GUEST static void check_lane(unsigned user, uint64_t page, const uint8_t *lane)
{
	uint8_t plain[PAGE];
	unsigned wrong =
		0; /* and one assertion: each is written to a file, and the lanes are many */

	content(page, plain);
	for (unsigned i = 0; i < LANE; i++)
		wrong += lane[i] !=
			 (written[user][page] ? written[user][page] : plain[user * LANE + i]);
	ck_assert_msg(
		wrong == 0, "user %u finds %u wrong bytes in page %" PRIu64, user, wrong, page);
}

GUEST static void *use(void *arg)
{
	unsigned user = (unsigned)(uintptr_t)arg, seed = user + 1;
	int null = open("/dev/zero", O_RDWR | O_CLOEXEC);
	uint8_t copy[LANE];

	for (unsigned n = 0; !stop || n < 300; n++) {
		uint64_t page = ((uint64_t)rand_r(&seed) << 8 ^ (uint64_t)rand_r(&seed)) % pages;
		uint8_t *host = host_of(page);

		if (!host)
			continue;
		host += user * LANE;
		switch (rand_r(&seed) % 3) {
		case 0:
			for (unsigned i = 0; i < LANE; i++)
				copy[i] = ((volatile uint8_t *)host)[i];
			check_lane(user, page, copy);
			break;
		case 1:
			written[user][page] = (uint8_t)(n % 255 + 1);
			for (unsigned i = 0; i < LANE; i++)
				((volatile uint8_t *)host)[i] = written[user][page];
			break;
		case 2: /* the kernel writes */
			ck_assert_int_eq(syscall(SYS_read, null, host, LANE / 2), LANE / 2);
			for (unsigned i = 0; i < LANE; i++)
				((volatile uint8_t *)host)[i] = 0x77;
			written[user][page] = 0x77;
			break;
		}
	}
	close(null);
	return NULL;
}

static void fill_under_use(enum memory_pages kind)
{
	pthread_t users[USERS];

	for (unsigned round = 0; round < 3; round++) {
		struct source source = {.go = true, .broken = GUEST_PAGE_NONE};
		struct ondemand *od;

		make_memory(kind);
		stop = false;
		od = start(&source);
		for (uintptr_t i = 0; i < USERS; i++) {
			written[i] = calloc(pages, 1);
			ck_assert_int_eq(pthread_create(&users[i], NULL, use, (void *)i), 0);
		}
		wait_complete(od);
		stop = true;
		for (unsigned i = 0; i < USERS; i++)
			pthread_join(users[i], NULL);
		ondemand_destroy(od);
		for (uint64_t page = 0; page < pages; page++) {
			uint8_t plain[PAGE];

			content(page, plain);
			for (unsigned i = 0; i < USERS && host_of(page); i++)
				check_lane(i, page, host_of(page) + i * LANE);
			if (host_of(page))
				ck_assert_mem_eq(host_of(page) + USERS * LANE, plain + USERS * LANE,
					PAGE - USERS * LANE);
		}
		ck_assert_uint_eq(source.told, 0);
		for (unsigned i = 0; i < USERS; i++)
			free(written[i]);
		guest_memory_destroy(&memory);
	}
}

START_TEST(who_uses_memory_while_it_is_filled_finds_the_source_or_its_own_writes_4_kib)
{
	fill_under_use(MEMORY_PAGES_OFF);
}
END_TEST

START_TEST(who_uses_memory_while_it_is_filled_finds_the_source_or_its_own_writes_huge)
{
	fill_under_use(MEMORY_PAGES_THP);
}
END_TEST

static bool is_there(const void *host)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	ck_assert_int_eq(pread(fd, &entry, 8, (off_t)((uintptr_t)host / PAGE * 8)), 8);
	close(fd);
	return entry >> 62;
}

START_TEST(zeros_cost_no_memory_and_nothing_is_watched_when_all_is_there)
{
	struct source source = {.go = true, .broken = GUEST_PAGE_NONE};
	_cleanup_free_ char *line = NULL;
	struct ondemand *od;
	size_t size = 0;
	FILE *smaps;

	make_memory(MEMORY_PAGES_OFF);
	od = start(&source);
	wait_complete(od);
	smaps = fopen("/proc/self/smaps", "re");
	ck_assert_ptr_nonnull(smaps);
	while (getline(&line, &size, smaps) > 0)
		ck_assert(strncmp(line, "VmFlags:", 8) || !strstr(line, " um "));
	fclose(smaps);
	for (uint64_t page = 0; page < pages; page++)
		if (host_of(page))
			ck_assert_int_eq(is_there(host_of(page)), page % 3 != 0);
	ondemand_destroy(od);
	guest_memory_destroy(&memory);
}
END_TEST

/* The kernel reads guest memory for us: 0, or the errno that it gave. */
static int touch(const uint8_t *host)
{
	int pipes[2], ret;

	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	ret = syscall(SYS_write, pipes[1], host, 1) == 1 ? 0 : errno;
	close(pipes[0]);
	close(pipes[1]);
	return ret;
}

static void *touch_broken(void *arg)
{
	return (void *)(intptr_t)touch(arg);
}

START_TEST(what_the_source_cannot_give_is_told_once_and_read_by_nobody)
{
	struct source source = {.broken = 5};
	struct ondemand_progress progress;
	pthread_t toucher;
	struct ondemand *od;
	void *ret;

	make_memory(MEMORY_PAGES_OFF);
	od = start(&source);
	ck_assert_int_eq(pthread_create(&toucher, NULL, touch_broken, host_of(5 * WINDOW + 7)), 0);
	while (!source.touched) /* and so is where somebody waits */
		sched_yield();
	ck_assert_uint_eq(source.touched, 5 * WINDOW + 7);
	source.go = true;
	pthread_join(toucher, &ret);
	ck_assert_int_eq((int)(intptr_t)ret, EFAULT);
	for (unsigned i = 0; i < WINDOW; i++)
		ck_assert_int_eq(touch(host_of(5 * WINDOW + i)), EFAULT);
	ck_assert_int_eq(touch(host_of(5 * WINDOW - 1)), 0);
	ck_assert_int_eq(touch(host_of(6 * WINDOW)), 0);
	do {
		sched_yield();
		ondemand_progress(od, &progress);
	} while (progress.filled < progress.windows - 1);
	ck_assert(progress.failed && !progress.complete);
	ck_assert_uint_eq(source.told, 1);
	ck_assert_str_eq(source.why.text, "the source is damaged");
	ck_assert_int_eq(source.why.kind, ERROR_CORRUPT);
	ondemand_destroy(od);
	guest_memory_destroy(&memory);
}
END_TEST

START_TEST(it_can_be_ended_before_all_is_there)
{
	for (unsigned n = 0; n < 20; n++) {
		struct source source = {.go = true, .broken = GUEST_PAGE_NONE};
		struct ondemand *od;

		make_memory(MEMORY_PAGES_THP);
		od = start(&source);
		for (unsigned i = 0; i < n; i++)
			ck_assert_int_eq(touch(host_of((n * 31 + i) % 1500)), 0);
		ondemand_destroy(od);
		guest_memory_destroy(&memory);
	}
}
END_TEST

START_TEST(memory_that_cannot_be_filled_so_or_is_in_use_is_refused_in_words)
{
	struct source source = {.broken = GUEST_PAGE_NONE};
	const struct ondemand_config config = {
		.read = read_source, .failed = tell, .owner = &source, .device = -1};
	const struct background_config copy = {.seccomp = SECCOMP_OFF, .device = -1};
	struct ondemand *od, *second;
	struct background *bg;

	make_memory(MEMORY_PAGES_OFF);
	memory.pages = MEMORY_PAGES_2M;
	ck_assert_int_lt(ondemand_start(&od, &memory, &config, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_INCOMPATIBLE);
	memory.pages = MEMORY_PAGES_OFF;
	od = start(&source);
	ck_assert_int_lt(ondemand_start(&second, &memory, &config, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_WRONG_STATE);
	ck_assert_int_lt(background_create(&bg, &memory, &copy, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_WRONG_STATE);
	ck_assert_ptr_nonnull(strstr(err.text, "still being filled"));
	source.go = true;
	wait_complete(od);
	ondemand_destroy(od);
	ck_assert_int_eq(background_create(&bg, &memory, &copy, &err), 0);
	background_destroy(bg);
	guest_memory_destroy(&memory);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("on demand");
	struct uffd uffd;

	if (uffd_open(&uffd, -1, 0, &err) < 0) {
		printf("test_ondemand: skipped: %s\n", err.text);
		return 77;
	}
	uffd_close(&uffd);
	tcase_set_timeout(tc, 60);
	tcase_add_test(
		tc, who_uses_memory_while_it_is_filled_finds_the_source_or_its_own_writes_4_kib);
	tcase_add_test(
		tc, who_uses_memory_while_it_is_filled_finds_the_source_or_its_own_writes_huge);
	tcase_add_test(tc, zeros_cost_no_memory_and_nothing_is_watched_when_all_is_there);
	tcase_add_test(tc, what_the_source_cannot_give_is_told_once_and_read_by_nobody);
	tcase_add_test(tc, it_can_be_ended_before_all_is_there);
	tcase_add_test(tc, memory_that_cannot_be_filled_so_or_is_in_use_is_refused_in_words);
	return run_tests("ondemand", tc, NULL);
}
