/* SPDX-License-Identifier: Apache-2.0 */
/* What a service manager is told, and what it passes: see vmm/base/service_manager.h. */
#include "tests/unit/runner.h"
#include "vmm/base/service_manager.h"
#include "vmm/base/util.h"

#include <stdio.h>
#include <string.h>

static struct service_manager manager;
static struct error err;

static void setup(void)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	err = (struct error){0};
}

/* A manager at an abstract address, which it puts into the environment. */
static int be_manager(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	char name[64];
	int len = snprintf(name, sizeof(name), "@bulkhead-test-%d", (int)getpid());

	memcpy(address.sun_path + 1, name + 1, (size_t)len - 1);
	ck_assert_int_eq(
		bind(fd, (struct sockaddr *)&address,
			(socklen_t)offsetof(struct sockaddr_un, sun_path) + (socklen_t)len),
		0);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

START_TEST(each_telling_is_one_datagram_and_a_long_one_is_cut)
{
	_cleanup_close_ int fd = be_manager();
	char text[1024], x[2000];

	memset(x, 'x', sizeof(x));
	ck_assert_int_eq(service_manager_open(&manager, &err), 0);
	service_manager_tell(&manager, "READY=1\nSTATUS=%s", "running");
	service_manager_tell(&manager, "STATUS=%.*s", (int)sizeof(x), x);
	ck_assert_int_eq(recv(fd, text, sizeof(text), 0), 22);
	ck_assert_mem_eq(text, "READY=1\nSTATUS=running", 22);
	ck_assert_int_eq(recv(fd, text, sizeof(text), 0), 511);
	ck_assert_int_lt(recv(fd, text, sizeof(text), 0), 0);
	service_manager_close(&manager);
	service_manager_tell(&manager, "STATUS=nobody hears this");
	ck_assert_int_lt(recv(fd, text, sizeof(text), 0), 0);
	service_manager_close(&manager);
}
END_TEST

START_TEST(without_an_address_nothing_is_told_and_a_wrong_one_is_refused)
{
	static const char *const wrong[] = {"relative", "@", "/", "vsock:2:1",
		"/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"};

	ck_assert_int_eq(service_manager_open(&manager, &err), 0);
	ck_assert_int_eq(manager.fd, -1);
	service_manager_tell(&manager, "READY=1");
	setenv("NOTIFY_SOCKET", "", 1);
	ck_assert_int_eq(service_manager_open(&manager, &err), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		setenv("NOTIFY_SOCKET", wrong[i], 1);
		ck_assert_msg(service_manager_open(&manager, &err) < 0, "%s", wrong[i]);
		ck_assert_int_eq(manager.fd, -1);
	}
}
END_TEST

static int passed(const char *pid, const char *fds, const char *names)
{
	char own[16];

	snprintf(own, sizeof(own), "%d", (int)getpid());
	setenv("LISTEN_PID", pid ? pid : own, 1);
	setenv("LISTEN_FDS", fds, 1);
	if (names)
		setenv("LISTEN_FDNAMES", names, 1);
	else
		unsetenv("LISTEN_FDNAMES");
	return service_manager_passed("control", &err);
}

START_TEST(the_only_socket_or_the_one_of_our_name_is_ours)
{
	ck_assert_int_eq(passed(NULL, "1", NULL), 3);
	ck_assert_int_eq(passed(NULL, "1", "whatever.socket"), 3);
	ck_assert_int_eq(passed(NULL, "3", "a:control:b"), 4);
	ck_assert_int_eq(passed(NULL, "3", "a::control"), 5);
	ck_assert_int_eq(passed(NULL, "2", "control:control"), 3);
	ck_assert_int_eq(passed(NULL, "0", NULL), 0);
}
END_TEST

START_TEST(what_is_for_another_process_is_not_ours_and_nonsense_is_refused)
{
	static const char *const counts[] = {
		"", "x", "-1", "1x", " 1", "1025", "99999999999999999999"};
	static const char *const pids[] = {"1", "", "x", "-1", "99999999999999999999"};

	ck_assert_int_eq(service_manager_passed("control", &err), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(pids); i++)
		ck_assert_int_eq(passed(pids[i], "1", NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
		ck_assert_msg(passed(NULL, counts[i], NULL) < 0, "'%s'", counts[i]);
	ck_assert_int_lt(passed(NULL, "2", NULL), 0);
	ck_assert_int_lt(passed(NULL, "2", "a:b"), 0);
	ck_assert_int_lt(passed(NULL, "2", "controls:contro"), 0);
	ck_assert_int_lt(
		passed(NULL, "2", "a:b:control"), 0); /* a name of a socket that was not passed */
}
END_TEST

int main(void)
{
	TCase *telling = tcase_create("telling"), *passing = tcase_create("passing");

	tcase_add_checked_fixture(telling, setup, NULL);
	tcase_add_test(telling, each_telling_is_one_datagram_and_a_long_one_is_cut);
	tcase_add_test(telling, without_an_address_nothing_is_told_and_a_wrong_one_is_refused);
	tcase_add_checked_fixture(passing, setup, NULL);
	tcase_add_test(passing, the_only_socket_or_the_one_of_our_name_is_ours);
	tcase_add_test(passing, what_is_for_another_process_is_not_ours_and_nonsense_is_refused);
	return run_tests("service_manager", telling, passing, NULL);
}
