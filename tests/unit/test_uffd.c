/* SPDX-License-Identifier: Apache-2.0 */
/* Who sleeps on a fault is let go, whatever else happens to the memory at that moment. */
#include "tests/unit/runner.h"
#include "vmm/base/util.h"
#include "vmm/memory/uffd.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE  MIB(2)
#define PAGE  4096u
#define TURNS 4000u

static struct error err;
static uint8_t *memory; /* SIZE, at a multiple of it */
static _Atomic unsigned turn, touched;

static void make_memory(void)
{
	uint8_t *room =
		mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(room, MAP_FAILED);
	memory = (uint8_t *)align_up((uintptr_t)room, SIZE);
	madvise(memory, SIZE,
		MADV_HUGEPAGE); /* where the kernel has it: a fault takes longer then */
}

static void *touch(void *arg)
{
	unsigned seen = 0;

	(void)arg;
	while (seen < TURNS) {
		while (turn == seen)
			sched_yield();
		seen = turn;
		((volatile uint8_t *)memory)[(seen * 37 % (SIZE / PAGE)) * PAGE] = 1;
		touched = seen;
	}
	return NULL;
}

/* As whoever fills memory does at its end, with a fault that comes at the very moment. Nobody answers it. */
START_TEST(a_fault_that_comes_while_the_watch_is_taken_off_is_let_go)
{
	struct uffd uffd;
	pthread_t thread;

	make_memory();
	ck_assert_int_eq(uffd_open(&uffd, -1, 0, &err), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, touch, NULL), 0);
	for (unsigned i = 1; i <= TURNS; i++) {
		ck_assert_int_eq(madvise(memory, SIZE, MADV_DONTNEED), 0);
		ck_assert_int_eq(
			uffd_register(&uffd, memory, SIZE, UFFDIO_REGISTER_MODE_MISSING, &err), 0);
		turn = i;
		for (volatile unsigned spin = 0; spin < i % 2000; spin++)
			;
		ck_assert_int_eq(uffd_unregister(&uffd, memory, SIZE), 0);
		while (touched != i)
			sched_yield();
	}
	pthread_join(thread, NULL);
	uffd_close(&uffd);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("uffd");
	struct uffd uffd;

	if (uffd_open(&uffd, -1, 0, &err) < 0) {
		printf("test_uffd: skipped: %s\n", err.text);
		return 77;
	}
	uffd_close(&uffd);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_fault_that_comes_while_the_watch_is_taken_off_is_let_go);
	return run_tests("uffd", tc, NULL);
}
