/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket at a path: for this user only, never taken from somebody, never left behind. */
#include "tests/unit/runner.h"
#include "vmm/base/unix_listener.h"
#include "vmm/base/util.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define WHAT "the test socket"

static struct unix_listener listener;
static struct error err;
static char directory[] = "/tmp/test_unix_listener.XXXXXX";
static char path[64];

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/s", directory);
	err = (struct error){0};
}

static void teardown(void)
{
	unlink(path);
	ck_assert_int_eq(rmdir(directory), 0);
}

static int open_listener(void)
{
	return unix_listener_open(&listener, WHAT, path, UNIX_PATH_MAX, 4, &err);
}

START_TEST(it_accepts_and_is_for_this_user_only_and_goes_at_the_end)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct stat st;

	umask(0);
	ck_assert_int_eq(open_listener(), 0);
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	strcpy(address.sun_path, path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_ge(accept(listener.fd, NULL, NULL), 0);
	unix_listener_close(&listener);
	ck_assert_int_eq(listener.fd, -1);
	ck_assert_int_lt(lstat(path, &st), 0);
	unix_listener_close(&listener);
}
END_TEST

START_TEST(a_socket_that_nobody_listens_on_is_replaced)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	ck_assert_int_eq(open_listener(), 0);
	unix_listener_close(&listener);
}
END_TEST

START_TEST(a_socket_in_use_is_left_alone)
{
	struct unix_listener first;

	ck_assert_int_eq(open_listener(), 0);
	first = listener;
	ck_assert_int_lt(open_listener(), 0);
	ck_assert_int_eq(err.kind, ERROR_ALREADY_EXISTS);
	ck_assert_ptr_nonnull(strstr(err.text, "in use"));
	ck_assert_ptr_nonnull(strstr(err.text, path));
	ck_assert_int_eq(access(path, F_OK), 0);
	unix_listener_close(&first);
}
END_TEST

START_TEST(a_file_that_is_no_socket_is_left_alone)
{
	close(open(path, O_CREAT | O_WRONLY, 0600));
	ck_assert_int_lt(open_listener(), 0);
	ck_assert_int_eq(err.kind, ERROR_ALREADY_EXISTS);
	ck_assert_ptr_nonnull(strstr(err.text, "no socket"));
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_path_taken_over_by_somebody_is_not_removed)
{
	ck_assert_int_eq(open_listener(), 0);
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	unix_listener_close(&listener);
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_path_that_does_not_fit_is_refused_with_the_limit)
{
	char text[256];

	memset(text, 'p', sizeof(text));
	text[97] = '\0';
	ck_assert_int_lt(unix_listener_open(&listener, WHAT, text, 96, 4, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_BAD_REQUEST);
	ck_assert_ptr_nonnull(strstr(err.text, "97 bytes, at most 96"));
	ck_assert_int_lt(unix_listener_open(&listener, WHAT, "", 96, 4, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_BAD_REQUEST);
}
END_TEST

START_TEST(a_missing_folder_is_named)
{
	ck_assert_int_lt(
		unix_listener_open(&listener, WHAT, "/nonexistent/s", UNIX_PATH_MAX, 4, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/s"));
	ck_assert_ptr_nonnull(strstr(err.text, "No such file"));
}
END_TEST

START_TEST(a_passed_socket_is_taken_over_and_its_file_stays)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct stat st;

	strcpy(address.sun_path, path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_lt(
		unix_listener_adopt(&listener, fd, WHAT, &err), 0); /* it does not listen */
	ck_assert_int_eq(listener.fd, -1);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(unix_listener_adopt(&listener, fd, WHAT, &err), 0);
	ck_assert_int_eq(listener.fd, fd);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	unix_listener_close(&listener);
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_int_lt(fcntl(fd, F_GETFD), 0);
}
END_TEST

START_TEST(what_is_no_listening_unix_stream_socket_is_refused)
{
	int pair[2], fds[6] = {-1, 999999};

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	fds[2] = pair[0];
	fds[3] = socket(AF_INET, SOCK_STREAM, 0);
	fds[4] = socket(AF_UNIX, SOCK_DGRAM, 0);
	fds[5] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		err.code = 0;
		ck_assert_msg(unix_listener_check(fds[i], WHAT, &err) < 0 && err.code, "%u", i);
		ck_assert_int_eq(strncmp(err.text, WHAT, strlen(WHAT)), 0);
	}
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("unix_listener");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, it_accepts_and_is_for_this_user_only_and_goes_at_the_end);
	tcase_add_test(tc, a_socket_that_nobody_listens_on_is_replaced);
	tcase_add_test(tc, a_socket_in_use_is_left_alone);
	tcase_add_test(tc, a_file_that_is_no_socket_is_left_alone);
	tcase_add_test(tc, a_path_taken_over_by_somebody_is_not_removed);
	tcase_add_test(tc, a_path_that_does_not_fit_is_refused_with_the_limit);
	tcase_add_test(tc, a_missing_folder_is_named);
	tcase_add_test(tc, a_passed_socket_is_taken_over_and_its_file_stays);
	tcase_add_test(tc, what_is_no_listening_unix_stream_socket_is_refused);
	return run_tests("unix_listener", tc, NULL);
}
