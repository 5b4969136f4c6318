/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A background copy: what the sink gets is memory as it was when it began, each page once, whoever writes meanwhile; and
 * whatever becomes of the copy, the memory stays as its writers left it.
 */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/memory/pages.h"
#include "vmm/memory/uffd.h"
#include "vmm/transfer/background.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGE	GUEST_PAGE_SIZE
#define UNIT	MIB(2)
#define SLOTS	4u
#define AREA	GIB(8)
#define WRITERS 3u

static struct guest_memory memory;
static struct error err;
static uint64_t pages;
static uint8_t *expected, *image; /* by page number */
static uint8_t *times;		  /* that a page was given */
static int pagemap;
static const uint8_t zeros[PAGE];

/* Two regions with the hole between them, the second with an odd tail; of four slots two are there. */
static void make_memory(enum memory_pages kind)
{
	const struct guest_memory_config config = {
		.region_count = 2,
		.regions = {{.gpa = 0, .size = MIB(4)}, {.gpa = GIB(4), .size = MIB(3) + 3 * PAGE}},
		.area_gpa = AREA,
		.area_size = SLOTS * UNIT,
		.area_unit = UNIT,
		.pages = kind,
	};

	ck_assert_int_eq(guest_memory_create(&config, &memory, &err), 0);
	ck_assert_int_eq(guest_memory_plug(&memory, 0, &err), 0);
	ck_assert_int_eq(guest_memory_plug(&memory, 2, &err), 0);
	pages = guest_memory_pages(&memory);
	expected = calloc(pages, PAGE);
	image = calloc(pages, PAGE);
	times = calloc(pages, 1);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ck_assert(expected && image && times && pagemap >= 0);
}

static void free_memory(void)
{
	guest_memory_destroy(&memory);
	free(expected);
	free(image);
	free(times);
	close(pagemap);
}

static bool next_piece(unsigned *i, struct page_range *piece)
{
	for (; *i < guest_memory_piece_count(&memory); (*i)++)
		if (guest_memory_piece_present(&memory, *i)) {
			*piece = guest_memory_piece(&memory, (*i)++);
			return true;
		}
	return false;
}

static uint8_t *host_of(uint64_t page)
{
	struct page_range piece;

	for (unsigned i = 0; next_piece(&i, &piece);)
		if (page - piece.first < piece.count)
			return piece.host + (page - piece.first) * PAGE;
	return NULL;
}

/* Without making pages be that are not. */
static void remember(void)
{
	memset(times, 0, pages);
	memset(image, 0xee, pages * PAGE);
	for (uint64_t page = 0; page < pages; page++) {
		uint8_t *host = host_of(page);
		uint64_t entry = 0;

		memset(expected + page * PAGE, 0, PAGE);
		if (!host)
			continue;
		ck_assert_int_eq(pread(pagemap, &entry, 8, (off_t)((uintptr_t)host / PAGE * 8)), 8);
		if (entry >> 62)
			memcpy(expected + page * PAGE, host, PAGE);
	}
}

static void check_image(const struct page_set *wanted)
{
	for (uint64_t page = 0; page < pages; page++) {
		bool given = host_of(page) && (!wanted || page_set_has(wanted, page));

		ck_assert_msg(
			times[page] == given, "page %lu was given %u times", page, times[page]);
		if (given)
			ck_assert_msg(!memcmp(image + page * PAGE, expected + page * PAGE, PAGE),
				"page %lu is not as it was", page);
	}
}

static int take(void *owner, uint64_t first, uint64_t count, const void *data, struct error *why)
{
	(void)why;
	ck_assert_ptr_null(owner);
	ck_assert(first + count <= pages);
	for (uint64_t i = 0; i < count; i++)
		times[first + i]++;
	if (data)
		memcpy(image + first * PAGE, data, count * PAGE);
	else
		memset(image + first * PAGE, 0, count * PAGE);
	return 0;
}

static const struct background_sink sink = {.take = take};

/* Writers: stores, the kernel in our stead (pread), and the kernel's io_uring; each halts when it is asked to. */
static _Atomic bool halt, stop;
static _Atomic unsigned halted;
static _Atomic uint64_t writes;

static void rest(void)
{
	if (!halt || stop)
		return;
	halted++;
	while (halt && !stop)
		sched_yield();
	halted--;
}

static uint8_t *anywhere(unsigned *seed)
{
	uint8_t *host;

	do
		host = host_of(((uint64_t)rand_r(seed) << 8 ^ (uint64_t)rand_r(seed)) % pages);
	while (!host);
	return host;
}

/*
 * What orders these writes and the reads of the copy is the kernel's write protection, which the thread sanitizer knows
 * nothing of: it is not to look at them.
 */
#define GUEST __attribute__((no_sanitize("thread")))

GUEST static void *store(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (; !stop; rest()) {
		_Atomic uint8_t *at = (_Atomic uint8_t *)anywhere(&seed);

		atomic_store(at + rand_r(&seed) % PAGE, (uint8_t)rand_r(&seed));
		if (rand_r(&seed) % 8 == 0)
			(void)!atomic_load(at);
		writes++;
	}
	return NULL;
}

static int random_file(void)
{
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void *read_into(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	int fd = random_file();

	for (; !stop; rest()) {
		ck_assert_int_eq(syscall(SYS_read, fd, anywhere(&seed) + 100, 500), 500);
		writes++;
	}
	close(fd);
	return NULL;
}

static void *read_by_ring(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	struct io_uring ring;
	int fd = random_file();

	ck_assert_int_eq(io_uring_queue_init(8, &ring, 0), 0);
	for (; !stop; rest()) {
		struct io_uring_cqe *cqe;

		for (unsigned i = 0; i < 4; i++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

			io_uring_prep_read(sqe, fd, anywhere(&seed), PAGE, 0);
			if (i & 1)
				sqe->flags |= IOSQE_ASYNC;
		}
		ck_assert_int_eq(io_uring_submit_and_wait(&ring, 4), 4);
		for (unsigned i = 0; i < 4; i++) {
			ck_assert_int_eq(io_uring_wait_cqe(&ring, &cqe), 0);
			ck_assert_int_gt(cqe->res, 0);
			io_uring_cqe_seen(&ring, cqe);
		}
		writes++;
	}
	io_uring_queue_exit(&ring);
	close(fd);
	return NULL;
}

static pthread_t writers[WRITERS];

static void start_writers(void)
{
	void *(*const kinds[WRITERS])(void *) = {store, read_into, read_by_ring};

	stop = halt = false;
	for (uintptr_t i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_create(&writers[i], NULL, kinds[i], (void *)(i + 1)), 0);
}

static void stop_writers(void)
{
	stop = true;
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
}

static void pause_writers(void)
{
	halt = true;
	while (halted < WRITERS)
		sched_yield();
}

static void resume_writers(void)
{
	halt = false;
	while (halted)
		sched_yield();
}

/* So many more writes have been made. */
static void wait_for_writes(uint64_t count)
{
	for (uint64_t until = writes + count; writes < until;)
		sched_yield();
}

/* The filter of a real VM's thread, but with sanitizers, which make calls of their own. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FILTER SECCOMP_ON
#else
#define FILTER SECCOMP_OFF
#endif

static struct background *prepare(uint64_t pool)
{
	const struct background_config config = {.pool = pool, .seccomp = FILTER, .device = -1};
	struct background *bg;

	ck_assert_msg(background_create(&bg, &memory, &config, &err) == 0, "%s", err.text);
	return bg;
}

static void begin(struct background *bg, const struct page_set *wanted)
{
	ck_assert_msg(background_arm(bg, &err) == 0, "%s", err.text);
	pause_writers();
	ck_assert_msg(background_begin(bg, wanted, &err) == 0, "%s", err.text);
	remember();
	resume_writers();
}

/* Pages that nobody has touched. */
static void make_holes(unsigned *seed)
{
	for (unsigned i = 0; i < 600; i++)
		ck_assert_int_eq(madvise(anywhere(seed), PAGE, MADV_DONTNEED), 0);
	if (rand_r(seed) % 4 == 0)
		ck_assert_int_eq(madvise(memory.regions[0].host, UNIT, MADV_DONTNEED), 0);
}

/* Nothing is left that a write could wait for. */
static void check_unwatched(void)
{
	_cleanup_free_ char *line = NULL;
	FILE *smaps = fopen("/proc/self/smaps", "re");
	size_t size = 0;

	ck_assert_ptr_nonnull(smaps);
	while (getline(&line, &size, smaps) > 0)
		if (!strncmp(line, "VmFlags:", 8))
			ck_assert_msg(!strstr(line, " um ") && !strstr(line, " uw "), "%s", line);
	fclose(smaps);
}

static void copy_under_fire(enum memory_pages kind, unsigned rounds)
{
	unsigned seed = kind + 1;

	make_memory(kind);
	for (unsigned n = 0; n < rounds; n++) {
		struct background_progress progress;
		struct background *bg;

		make_holes(&seed);
		bg = prepare(0);
		start_writers();
		begin(bg, NULL);
		ck_assert_msg(background_run(bg, &sink, &err) == 0, "%s", err.text);
		wait_for_writes(3);
		background_progress(bg, &progress);
		ck_assert_uint_eq(progress.taken, progress.total);
		check_image(NULL);
		background_destroy(bg);
		wait_for_writes(3);
		stop_writers();
		check_unwatched();
	}
	free_memory();
}

START_TEST(the_copy_is_memory_as_it_was_at_the_moment_in_pages_of_4_kib)
{
	copy_under_fire(MEMORY_PAGES_OFF, 20);
}
END_TEST

START_TEST(the_copy_is_memory_as_it_was_at_the_moment_in_huge_pages)
{
	copy_under_fire(MEMORY_PAGES_THP, 20);
}
END_TEST

/* A sink that lets writers go on for a while before each piece. */
static int take_slowly(
	void *owner, uint64_t first, uint64_t count, const void *data, struct error *why)
{
	wait_for_writes(8);
	return take(owner, first, count, data, why);
}

START_TEST(what_is_written_before_the_sink_has_it_is_copied_aside_first)
{
	const struct background_sink slow = {.take = take_slowly};
	struct background_progress progress;
	struct background *bg;

	make_memory(MEMORY_PAGES_OFF);
	for (uint64_t page = 0; page < pages; page++)
		if (host_of(page) && page % 8)
			memset(host_of(page), (int)page, PAGE);
	bg = prepare(0);
	start_writers();
	begin(bg, NULL);
	ck_assert_int_eq(background_run(bg, &slow, &err), 0);
	stop_writers();
	background_progress(bg, &progress);
	ck_assert_uint_gt(progress.copied, 0);
	ck_assert_uint_gt(progress.filled, 0);
	check_image(NULL);
	background_destroy(bg);
	free_memory();
}
END_TEST

START_TEST(only_what_is_wanted_is_given)
{
	struct background *bg;
	struct page_set wanted;
	unsigned seed = 5;

	make_memory(MEMORY_PAGES_THP);
	ck_assert_int_eq(page_set_create(&wanted, pages, &err), 0);
	for (unsigned n = 0; n < 20; n++) {
		page_set_clear(&wanted);
		for (unsigned i = 0; i < 50; i++) {
			uint64_t first = (uint64_t)rand_r(&seed) % pages;

			page_set_add(&wanted, first, min_u64(pages - first, 1 + first % 40));
		}
		bg = prepare(0);
		start_writers();
		begin(bg, &wanted);
		ck_assert_int_eq(background_run(bg, &sink, &err), 0);
		stop_writers();
		check_image(&wanted);
		background_destroy(bg);
	}
	page_set_destroy(&wanted);
	free_memory();
}
END_TEST

static _Atomic bool all_written;

/* Writes to all of memory, last page first, as the reader comes from the other side. */
GUEST static void *write_all(void *arg)
{
	for (uint64_t page = pages; page-- > 0;)
		if (host_of(page))
			atomic_store((_Atomic uint8_t *)host_of(page) + 1, *(uint8_t *)arg);
	all_written = true;
	return NULL;
}

static struct background *stuck;
static enum { THEN_TAKE, THEN_CANCEL, THEN_WIDEN } then;

/* Takes nothing before a writer has found the pool full. */
static int take_when_full(
	void *owner, uint64_t first, uint64_t count, const void *data, struct error *why)
{
	struct background_progress progress;

	do {
		background_progress(stuck, &progress);
		sched_yield();
	} while (!progress.waits);
	if (then == THEN_CANCEL)
		background_cancel(stuck);
	if (then == THEN_WIDEN)
		background_widen(stuck, true);
	while (then == THEN_WIDEN && !all_written) /* nobody waits for this sink any more */
		sched_yield();
	return take(owner, first, count, data, why);
}

static void fill_pool(int what)
{
	const struct background_sink full = {.take = take_when_full};
	struct background_progress progress;
	uint8_t value = 0x5a;
	pthread_t writer;
	int ret;

	make_memory(MEMORY_PAGES_OFF);
	for (uint64_t page = 0; page < pages; page++)
		if (host_of(page))
			memset(host_of(page), (int)page, PAGE);
	stuck = prepare(1);
	then = what;
	all_written = false;
	ck_assert_int_eq(background_arm(stuck, &err), 0);
	ck_assert_int_eq(background_begin(stuck, NULL, &err), 0);
	remember();
	ck_assert_int_eq(pthread_create(&writer, NULL, write_all, &value), 0);
	ret = background_run(stuck, &full, &err);
	pthread_join(writer, NULL);
	background_progress(stuck, &progress);
	if (what == THEN_WIDEN)
		ck_assert_uint_gt(progress.pool_peak, progress.pool_pages);
	else
		ck_assert_uint_eq(progress.pool_peak, progress.pool_pages);
	ck_assert_int_eq(ret < 0, what == THEN_CANCEL);
	if (what == THEN_CANCEL)
		ck_assert_int_eq(err.kind, ERROR_CANCELLED);
	else
		check_image(NULL);
	background_destroy(stuck);
	for (uint64_t page = 0; page < pages; page++)
		if (host_of(page))
			ck_assert(host_of(page)[0] == (uint8_t)page && host_of(page)[1] == value);
	free_memory();
}

START_TEST(who_writes_waits_for_the_sink_when_the_pool_is_full)
{
	fill_pool(THEN_TAKE);
}
END_TEST

START_TEST(who_waits_for_a_full_pool_goes_on_when_the_copy_is_cancelled)
{
	fill_pool(THEN_CANCEL);
}
END_TEST

START_TEST(who_waits_for_a_full_pool_goes_on_when_it_is_widened)
{
	fill_pool(THEN_WIDEN);
}
END_TEST

/* It must not wait for writers here, who may wait for the pool. */
static int take_with_pauses(
	void *owner, uint64_t first, uint64_t count, const void *data, struct error *why)
{
	if (first % 8 == 0)
		sched_yield();
	return take(owner, first, count, data, why);
}

static void *cancel_later(void *arg)
{
	nanosleep(arg, NULL);
	background_cancel(stuck);
	return NULL;
}

START_TEST(a_copy_cancelled_at_any_moment_leaves_memory_as_its_writers_made_it)
{
	static const struct background_sink slow = {.take = take_with_pauses};
	unsigned seed = 11, cancelled = 0;

	make_memory(MEMORY_PAGES_THP);
	for (unsigned n = 0; n < 50; n++) {
		struct timespec delay = {.tv_nsec = rand_r(&seed) % (n % 3 ? 20000000 : 200000)};
		uint8_t value = (uint8_t)n;
		pthread_t canceller;
		int ret;

		make_holes(&seed);
		start_writers();
		stuck = prepare(MIB(1));
		ck_assert_int_eq(pthread_create(&canceller, NULL, cancel_later, &delay), 0);
		ret = background_arm(stuck, &err);
		if (ret == 0) {
			pause_writers();
			ret = background_begin(stuck, NULL, &err);
			remember();
			resume_writers();
		}
		if (ret == 0)
			ret = background_run(stuck, n % 2 ? &slow : &sink, &err);
		if (ret < 0)
			ck_assert_msg(err.kind == ERROR_CANCELLED, "%s", err.text);
		cancelled += ret < 0;
		wait_for_writes(3);
		if (n % 4 == 0)
			background_end(stuck);
		pthread_join(canceller, NULL);
		background_destroy(stuck);
		stop_writers();
		check_unwatched();
		write_all(&value);
		for (uint64_t page = 0; page < pages; page++)
			if (host_of(page))
				ck_assert_uint_eq(host_of(page)[1], value);
	}
	ck_assert_uint_gt(cancelled, 0);
	free_memory();
}
END_TEST

static int take_nothing(
	void *owner, uint64_t first, uint64_t count, const void *data, struct error *why)
{
	(void)owner;
	(void)count;
	(void)data;
	return first ? error_set(why, ERROR_IO, "the disk is full") : 0;
}

START_TEST(a_sink_that_fails_ends_the_copy_with_its_words_and_no_writer_waits)
{
	static const struct background_sink failing = {.take = take_nothing};
	struct background *bg;

	make_memory(MEMORY_PAGES_OFF);
	bg = prepare(0);
	start_writers();
	begin(bg, NULL);
	ck_assert_int_lt(background_run(bg, &failing, &err), 0);
	ck_assert_str_eq(err.text, "the disk is full");
	wait_for_writes(100);
	background_destroy(bg);
	wait_for_writes(3);
	stop_writers();
	check_unwatched();
	free_memory();
}
END_TEST

START_TEST(memory_unplugged_meanwhile_is_still_read_as_it_was)
{
	struct background *bg;
	unsigned seed = 3;

	make_memory(MEMORY_PAGES_OFF);
	for (uint64_t page = 0; page < pages; page++)
		if (host_of(page))
			memset(host_of(page), rand_r(&seed), PAGE);
	bg = prepare(0);
	ck_assert_int_eq(background_arm(bg, &err), 0);
	ck_assert_int_eq(background_begin(bg, NULL, &err), 0);
	remember();
	guest_memory_unplug(&memory, 2);
	ck_assert_ptr_null(guest_memory_view(&memory, AREA + 2 * UNIT, 1));
	ck_assert_int_lt(guest_memory_plug(&memory, 2, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_WRONG_STATE);
	ck_assert_int_eq(background_run(bg, &sink, &err), 0);
	background_destroy(bg);
	ck_assert_int_eq(guest_memory_plug(&memory, 2, &err), 0);
	check_image(NULL);
	for (uint64_t at = 0; at < UNIT; at += PAGE)
		ck_assert_mem_eq(
			guest_memory_view(&memory, AREA + 2 * UNIT + at, PAGE), zeros, PAGE);
	free_memory();
}
END_TEST

START_TEST(memory_plugged_while_it_is_armed_refuses_the_beginning)
{
	struct background *bg;

	make_memory(MEMORY_PAGES_OFF);
	bg = prepare(0);
	ck_assert_int_eq(background_arm(bg, &err), 0);
	ck_assert_int_eq(guest_memory_plug(&memory, 1, &err), 0);
	ck_assert_int_lt(background_begin(bg, NULL, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_WRONG_STATE);
	background_destroy(bg);
	check_unwatched();
	free_memory();
}
END_TEST

static void refuse(enum error_kind kind, const char *text)
{
	static const struct background_config config = {.seccomp = SECCOMP_OFF, .device = -1};
	struct background *bg = NULL;

	ck_assert_int_lt(background_create(&bg, &memory, &config, &err), 0);
	ck_assert_ptr_null(bg);
	ck_assert_int_eq(err.kind, kind);
	ck_assert_msg(strstr(err.text, text), "%s", err.text);
}

START_TEST(what_cannot_be_copied_in_the_background_is_refused_in_words)
{
	make_memory(MEMORY_PAGES_OFF);
	memory.of_files = true;
	refuse(ERROR_INCOMPATIBLE, "mapped from a snapshot");
	memory.of_files = false;
	memory.pages = MEMORY_PAGES_2M;
	refuse(ERROR_INCOMPATIBLE, "reserved huge pages");
	check_unwatched();
	free_memory();
}
END_TEST

/* In a process of its own, as nobody. */
static int try_as_nobody(void)
{
	static const struct background_config config = {.seccomp = SECCOMP_OFF, .device = -1};
	struct background *bg;

	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		return 2;
	if (background_create(&bg, &memory, &config, &err) == 0)
		return 3; /* this host lets everyone */
	return err.code == EPERM && strstr(err.text, "userfaultfd") &&
			       strstr(err.hint, "vm.unprivileged_userfaultfd")
		       ? 0
		       : 1;
}

START_TEST(a_host_that_does_not_allow_it_is_named_with_the_mend)
{
	int status;
	pid_t pid;

	make_memory(MEMORY_PAGES_OFF);
	pid = fork();
	if (pid == 0)
		_exit(try_as_nobody());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_ne(WEXITSTATUS(status), 1);
	free_memory();
}
END_TEST

/* Nothing to test with where the host does not let us. */
static bool allowed(void)
{
	struct uffd uffd;

	if (uffd_open(&uffd, -1, UFFD_FEATURE_PAGEFAULT_FLAG_WP, &err) < 0)
		return false;
	uffd_close(&uffd);
	return true;
}

int main(void)
{
	TCase *tc = tcase_create("background copy");

	if (!allowed()) {
		printf("test_background: skipped: %s\n", err.text);
		return 77;
	}
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, the_copy_is_memory_as_it_was_at_the_moment_in_pages_of_4_kib);
	tcase_add_test(tc, the_copy_is_memory_as_it_was_at_the_moment_in_huge_pages);
	tcase_add_test(tc, what_is_written_before_the_sink_has_it_is_copied_aside_first);
	tcase_add_test(tc, only_what_is_wanted_is_given);
	tcase_add_test(tc, who_writes_waits_for_the_sink_when_the_pool_is_full);
	tcase_add_test(tc, who_waits_for_a_full_pool_goes_on_when_the_copy_is_cancelled);
	tcase_add_test(tc, a_copy_cancelled_at_any_moment_leaves_memory_as_its_writers_made_it);
	tcase_add_test(tc, who_waits_for_a_full_pool_goes_on_when_it_is_widened);
	tcase_add_test(tc, a_sink_that_fails_ends_the_copy_with_its_words_and_no_writer_waits);
	tcase_add_test(tc, memory_unplugged_meanwhile_is_still_read_as_it_was);
	tcase_add_test(tc, memory_plugged_while_it_is_armed_refuses_the_beginning);
	tcase_add_test(tc, what_cannot_be_copied_in_the_background_is_refused_in_words);
	tcase_add_test(tc, a_host_that_does_not_allow_it_is_named_with_the_mend);
	return run_tests("background", tc, NULL);
}
