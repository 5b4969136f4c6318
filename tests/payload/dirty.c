/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking of real machines, on this host's /dev/kvm: payload_dirty TEST OPTIONS-OF-RUN. The machine
 * boots the payload "dirty", which writes where it is told; what is collected is compared with what it was told, page by page, from 32 MiB up. A
 * second thread plays the test: it does to the machine what it does on the machine's own thread.
 * Says nothing and returns 0, or one line on standard error and 1.
 */
#include "guest/payloads/dirty.h"
#include "tests/unit/page_at.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/dirty.h"
#include "vmm/memory/dirty.h"

#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE	   ((uint64_t)GUEST_PAGE_SIZE)
#define MAILBOX	   MIB(30) /* the payload is told the same on its command line */
#define FIRST	   MIB(32) /* what is below belongs to the payload itself */
#define FIRST_PAGE (FIRST / PAGE)
#define HOLE_START GIB(3)
#define HOLE_END   GIB(4)

#define check(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, __VA_ARGS__);                                              \
			fprintf(stderr, "\n");                                                     \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static struct machine_config config;
static struct machine *machine;
static struct dirty_mailbox *mailbox;
static struct page_set expected, got;
static struct error err;

/* ---- on the machine's thread ---- */

struct errand {
	struct loop_job job;
	void (*fn)(void);
	sem_t done;
};

static void run_errand(struct loop_job *job)
{
	struct errand *errand = container_of(job, struct errand, job);

	errand->fn();
	sem_post(&errand->done);
}

static void do_there(void (*fn)(void))
{
	struct errand errand = {.job.run = run_errand, .fn = fn};

	sem_init(&errand.done, 0, 0);
	loop_post(machine_loop(machine), &errand.job);
	while (sem_wait(&errand.done) < 0)
		;
	sem_destroy(&errand.done);
}

static void start(void)
{
	check(machine_dirty_start(machine, &err) == 0, "start: %s", err.text);
	check(machine_dirty_active(machine), "it is not active");
}

static void stop(void)
{
	machine_dirty_stop(machine);
	check(!machine_dirty_active(machine), "it is active still");
}

static void collect(void)
{
	machine_pause(machine);
	check(machine_dirty_collect(machine, &got, &err) == 0, "collect: %s", err.text);
	machine_resume(machine);
}

static void commit(void)
{
	machine_dirty_commit(machine);
}

static void rollback(void)
{
	machine_dirty_rollback(machine);
}

static void collect_and_commit(void)
{
	collect();
	commit();
}

/* ---- the guest ---- */

static void order(enum dirty_order what, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t number = mailbox->number + 1;

	mailbox->order = what;
	mailbox->args[0] = a;
	mailbox->args[1] = b;
	mailbox->args[2] = c;
	__atomic_store_n(&mailbox->number, number, __ATOMIC_RELEASE);
}

static void wait_for_guest(void)
{
	while (__atomic_load_n(&mailbox->done, __ATOMIC_ACQUIRE) != mailbox->number)
		usleep(500);
}

static void obeyed(enum dirty_order what, uint64_t a, uint64_t b, uint64_t c)
{
	order(what, a, b, c);
	wait_for_guest();
}

/* The guest writes these pages, and they are expected. */
static void guest_writes(uint64_t gpa, uint64_t pages, uint64_t stride)
{
	obeyed(DIRTY_WRITE, gpa, pages, stride);
	for (uint64_t i = 0; i < pages; i++)
		page_set_add(&expected, page_at(machine_memory(machine), gpa + i * stride), 1);
}

/* On both sides of the hole, in runs, sparsely, and to the last page. */
static void guest_writes_all_over(unsigned round)
{
	uint64_t end = HOLE_END + machine_memory(machine)->size - HOLE_START;

	guest_writes(FIRST + round * PAGE, 300, PAGE);
	guest_writes(MIB(200) + round * 8, 100, (65 + round) * PAGE);
	guest_writes(HOLE_START - (70 + round) * PAGE, 70 + round, PAGE);
	guest_writes(HOLE_END, 3 + round, PAGE);
	guest_writes(HOLE_END + MIB(300), 40, 513 * PAGE);
	guest_writes(end - PAGE, 1, PAGE);
}

static void as_expected(const char *what)
{
	for (uint64_t page = FIRST_PAGE; page < got.count; page++)
		check(page_set_has(&got, page) == page_set_has(&expected, page),
			"%s: page %" PRIu64 " of %" PRIu64 " is %s", what, page, got.count,
			page_set_has(&got, page) ? "dirty, though nobody wrote it"
						 : "clean, though it was written");
	page_set_clear(&expected);
}

static void expect_all(const char *what)
{
	check(page_set_size(&got) * PAGE == machine_memory(machine)->size,
		"%s: %" PRIu64 " pages are dirty, not all", what, page_set_size(&got));
}

/* ---- tests ---- */

static void exact(void)
{
	do_there(start);
	do_there(collect_and_commit);
	expect_all("at first");
	for (unsigned round = 0; round < 5; round++) {
		guest_writes_all_over(round);
		do_there(collect_and_commit);
		as_expected("what the guest wrote");
	}
	do_there(collect_and_commit);
	as_expected("nothing");
	guest_writes(FIRST, 2000, PAGE);
	guest_writes(FIRST, 2000, PAGE);
	do_there(collect_and_commit);
	as_expected("what was written twice");
}

static void disk_reads(uint64_t gpa, uint64_t sectors)
{
	const struct guest_memory *memory = machine_memory(machine);

	obeyed(DIRTY_READ_DISK, gpa, sectors, 0);
	for (uint64_t at = gpa & ~(PAGE - 1); at < gpa + sectors * 512; at += PAGE)
		page_set_add(&expected, page_at(memory, at), 1);
}

static void disk(void)
{
	do_there(start);
	do_there(collect_and_commit);
	disk_reads(FIRST + 512, 2000);
	disk_reads(HOLE_START - 2 * PAGE, 16);
	disk_reads(HOLE_END + MIB(500) + 7 * PAGE, 801);
	guest_writes(HOLE_END, 1, PAGE);
	do_there(collect_and_commit);
	as_expected("what the disk wrote");
}

static void failed_sink(void)
{
	do_there(start);
	do_there(collect_and_commit);
	guest_writes_all_over(1);
	do_there(collect);
	do_there(rollback);
	guest_writes(MIB(900), 50, 3 * PAGE);
	do_there(collect);
	guest_writes(MIB(901), 50, 3 * PAGE); /* while the sink works */
	do_there(rollback);
	do_there(collect);
	as_expected("after two that failed");
	guest_writes(MIB(902), 50, 3 * PAGE);
	do_there(commit);
	do_there(collect_and_commit);
	as_expected("after one that did not");
}

static void off_and_on(void)
{
	do_there(start);
	do_there(collect_and_commit);
	guest_writes_all_over(2);
	do_there(stop);
	guest_writes_all_over(3);
	do_there(start);
	do_there(collect);
	expect_all("at the second start");
	do_there(rollback);
	do_there(collect_and_commit);
	expect_all("as it failed");
	page_set_clear(&expected);
	guest_writes_all_over(4);
	do_there(collect_and_commit);
	as_expected("after the second start");
	do_there(stop);
}

static void reset(void)
{
	do_there(start);
	do_there(collect_and_commit);
	order(DIRTY_RESET, 0, 0, 0);
	wait_for_guest();
	do_there(collect_and_commit);
	expect_all("after a reset");
	guest_writes_all_over(0);
	do_there(collect_and_commit);
	as_expected("what the new guest wrote");
}

/* ---- copies of a guest that runs ---- */

#define STORM  (HOLE_START - 1500 * PAGE)
#define WINDOW 1024

static uint8_t *copy;
static struct dirty_user mover;
static uint64_t copied;

static void join(void)
{
	check(dirty_engine_join(machine_dirty_engine(machine), &mover, &err) == 0, "join: %s",
		err.text);
}

static void leave(void)
{
	dirty_engine_leave(machine_dirty_engine(machine), &mover);
}

/* What lies around the hole; the rest would be 5 GiB. */
static void keep(const struct page_range *r)
{
	for (uint64_t i = 0; i < r->count; i++) {
		uint64_t at = r->first + i - (HOLE_START / PAGE - 2000);

		if (at >= 4000)
			continue;
		memcpy(copy + at * PAGE, r->host + i * PAGE, PAGE);
		copied++;
	}
}

/* One pass as a migration makes it. Any thread. */
static void copy_dirty(void)
{
	struct dirty_engine *engine = machine_dirty_engine(machine);
	const struct guest_memory *memory = machine_memory(machine);
	struct page_range r;

	check(dirty_engine_look(engine, &mover, &got, &err) == 0, "look: %s", err.text);
	for (uint64_t at = 0; at < got.count; at += WINDOW) {
		uint64_t count = min_u64(WINDOW, got.count - at);

		if (!page_set_size_of(&got, at, count))
			continue;
		check(dirty_engine_rearm(engine, &mover, &got, at, count, &err) == 0, "rearm: %s",
			err.text);
		for (uint64_t from = at; guest_memory_next_range(memory, &got, from, WINDOW, &r) &&
					 r.first < at + count;
			from = r.first + r.count) {
			r.count = min_u64(r.count, at + count - r.first);
			keep(&r);
		}
	}
	dirty_engine_commit(engine, &mover);
}

static void copy_dirty_paused(void)
{
	const struct guest_memory *memory = machine_memory(machine);
	uint64_t gpa = HOLE_START - 2000 * PAGE;

	machine_pause(machine);
	copy_dirty();
	for (unsigned i = 0; i < 4000; i++) {
		const uint8_t *page;

		if (gpa == HOLE_START)
			gpa = HOLE_END;
		page = guest_memory_view(memory, gpa, PAGE);
		check(!memcmp(copy + i * PAGE, page, PAGE), "the page at 0x%" PRIx64 " was missed",
			gpa);
		gpa += PAGE;
	}
	machine_resume(machine);
}

/* The storm writes below the hole; above it nobody does. Windows are cleared and copied meanwhile, with tracking on and off. */
static void storm(void)
{
	copy = calloc(4000, PAGE);
	order(DIRTY_STORM, STORM, 1500, 0);
	for (unsigned i = 0; i < 6; i++) {
		do_there(join);
		if (i % 2)
			do_there(
				start); /* a second user, who arms all and takes the bits for itself */
		for (unsigned pass = 0; pass < 5; pass++) {
			copy_dirty();
			if (i % 2)
				do_there(collect_and_commit);
		}
		do_there(copy_dirty_paused);
		do_there(leave);
		if (i % 2)
			do_there(stop);
	}
	check(copied > 10000, "only %" PRIu64 " pages were copied", copied);
	free(copy);
}

/* Two who follow: neither takes anything from the other. */
static void two_users(void)
{
	struct dirty_engine *engine;

	do_there(start);
	do_there(collect_and_commit);
	do_there(join);
	engine = machine_dirty_engine(machine);
	check(dirty_engine_collect(engine, &mover, &got, &err) == 0, "collect: %s", err.text);
	expect_all("to the second user");
	guest_writes_all_over(1);
	check(dirty_engine_collect(engine, &mover, &got, &err) == 0, "collect: %s", err.text);
	dirty_engine_commit(engine, &mover);
	guest_writes(MIB(700), 9, PAGE);
	check(dirty_engine_collect(engine, &mover, &got, &err) == 0, "collect: %s", err.text);
	check(page_set_size_of(&got, FIRST_PAGE, got.count - FIRST_PAGE) == 9,
		"the second user sees other pages");
	do_there(leave);
	do_there(collect_and_commit);
	as_expected("to the first user");
	guest_writes(MIB(701), 9, PAGE);
	do_there(collect_and_commit);
	as_expected("alone again");
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{"exact", exact},
	{"disk", disk},
	{"failed_sink", failed_sink},
	{"off_and_on", off_and_on},
	{"reset", reset},
	{"storm", storm},
	{"two_users", two_users},
};

static void *play(void *arg)
{
	void (*run)(void) = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
		if (!strcmp(tests[i].name, arg))
			run = tests[i].run;
	check(run, "no test '%s'", (char *)arg);
	/* The guest clears its mailbox's page as it boots, since nobody has written to it. */
	order(DIRTY_WRITE, FIRST, 1, PAGE);
	wait_for_guest();
	run();
	order(DIRTY_END, 0, 0, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	enum machine_exit how;
	pthread_t player;
	bool help;
	int ret;

	check(argc > 2, "usage: payload_dirty TEST OPTION...");
	check(machine_config_from_args(&config, argc - 2, argv + 2, &help, &err) == 0, "%s",
		err.text);
	check(machine_create(&config, &machine, &err) == 0, "%s", err.text);
	mailbox = (void *)guest_memory_view(machine_memory(machine), MAILBOX, PAGE);
	check(page_set_create(&expected, guest_memory_pages(machine_memory(machine)), &err) == 0 &&
			page_set_create(&got, expected.count, &err) == 0,
		"%s", err.text);
	pthread_create(&player, NULL, play, argv[1]);
	ret = machine_run(machine, &how, &err);
	check(ret == 0 && how == MACHINE_EXIT_POWEROFF, "it ended as %s", machine_exit_name(how));
	pthread_join(player, NULL);
	machine_destroy(machine);
	machine_config_free(&config);
	page_set_destroy(&expected);
	page_set_destroy(&got);
	return 0;
}
