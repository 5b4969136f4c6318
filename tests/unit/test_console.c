/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console's host end: bytes pass whole and in order through every kind of descriptor, a slow or
 * absent reader neither loses bytes nor stalls anybody for ever, the terminal is given back, and the
 * socket belongs to one client at a time.
 *
 * The loop runs on the test's thread; the guest, and the world outside, on a second one.
 */
#include "devices/console.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

enum { DATA, IER, FCR, LCR, MCR, LSR };

static struct serial serial;
static struct loop *loop;
static struct console *console;
static struct error err;
static _Atomic unsigned quits;
static char dir[] = "/tmp/test-console-XXXXXX";
static char path[64];

static void count_quit(void *owner)
{
	ck_assert_ptr_eq(owner, &serial);
	quits++;
}

static struct console_wiring wiring;

static void setup(void)
{
	struct irq_line none = {.fd = -1};

	signal(SIGPIPE, SIG_IGN);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/console", dir);
	ck_assert_int_eq(loop_create(&loop, 32, &err), 0);
	ck_assert_int_eq(serial_init(&serial, none, &err), 0);
	wiring = (struct console_wiring){loop, &serial, count_quit, &serial};
	console = NULL;
	quits = 0;
}

static void teardown(void)
{
	console_destroy(console);
	loop_destroy(loop);
	serial_destroy(&serial);
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0); /* nothing is left behind */
}

/* ---- the guest ---- */

static uint8_t pattern(uint32_t i)
{
	return (uint8_t)(i * 2654435761u >> 11);
}

static void guest_open(void)
{
	serial_bus_ops.write(&serial, FCR, 1, 0x81);
	serial_bus_ops.write(&serial, MCR, 1, 0x0b);
}

static bool guest_put(uint8_t byte)
{
	for (unsigned i = 0; !(serial_bus_ops.read(&serial, LSR, 1) & 0x20); i++) {
		if (i == 30000)
			return false;
		usleep(1000);
	}
	serial_bus_ops.write(&serial, DATA, 1, byte);
	return true;
}

static void guest_put_pattern(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!guest_put(pattern(i)))
			ck_abort_msg("the guest waits for ever after %u bytes", i);
}

static void guest_puts(const char *text)
{
	while (*text)
		ck_assert(guest_put((uint8_t)*text++));
}

/* The next byte of input, or -1 when none comes within `ms`. */
static int guest_get(unsigned ms)
{
	for (unsigned i = 0; !(serial_bus_ops.read(&serial, LSR, 1) & 0x01); i++) {
		if (i == ms * 4)
			return -1;
		usleep(250);
	}
	return (int)serial_bus_ops.read(&serial, DATA, 1);
}

static void guest_expect(const char *text)
{
	for (; *text; text++)
		ck_assert_int_eq(guest_get(30000), (uint8_t)*text);
}

/* ---- the world ---- */

static void *run_world(void *arg)
{
	void (*world)(void);

	memcpy(&world, arg, sizeof(world));
	world();
	loop_stop(loop);
	return NULL;
}

static void run(void (*world)(void))
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, run_world, &world), 0);
	ck_assert_int_eq(loop_run(loop, &err), 0);
	pthread_join(thread, NULL);
}

static void end_console(void)
{
	console_destroy(console);
	console = NULL;
}

static void read_exactly(int fd, void *data, size_t size)
{
	for (size_t got = 0; got < size;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		ssize_t n;

		ck_assert_msg(poll(&pfd, 1, 30000) == 1, "nothing more comes after %zu bytes", got);
		n = read(fd, (char *)data + got, size - got);
		ck_assert_int_gt(n, 0);
		got += (size_t)n;
	}
}

static void expect_pattern(int fd, uint32_t count)
{
	uint8_t *bytes = malloc(count);

	read_exactly(fd, bytes, count);
	for (uint32_t i = 0; i < count; i++)
		if (bytes[i] != pattern(i))
			ck_abort_msg("byte %u is wrong", i);
	free(bytes);
}

static void expect_text(int fd, const char *text)
{
	char got[256] = {0};

	read_exactly(fd, got, strlen(text));
	ck_assert_str_eq(got, text);
}

static void send_all(int fd, const char *text)
{
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* ---- file ---- */

static void world_says_last_words(void)
{
	guest_puts("second\n");
}

START_TEST(a_file_is_appended_to_and_holds_the_last_words)
{
	char text[64] = {0};
	int fd = open(path, O_CREAT | O_RDWR, 0600);

	send_all(fd, "first\n");
	ck_assert_int_eq(console_file_create(&console, &wiring, path, &err), 0);
	run(world_says_last_words);
	guest_puts("third"); /* the loop does not turn any more */
	end_console();
	ck_assert_int_eq(pread(fd, text, sizeof(text), 0), 18);
	ck_assert_str_eq(text, "first\nsecond\nthird");
	close(fd);
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_is_named)
{
	ck_assert_int_lt(console_file_create(&console, &wiring, dir, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, dir));
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_lt(console_file_create(&console, &wiring, path, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "fifo"));
}
END_TEST

/* ---- standard input and output ---- */

static int host_in, host_out; /* our ends: what we write is its input */

static void use_pipes(void)
{
	int in[2], out[2];

	ck_assert_int_eq(pipe(in), 0);
	ck_assert_int_eq(pipe(out), 0);
	dup2(in[0], STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	close(in[0]);
	close(out[1]);
	host_in = in[1];
	host_out = out[0];
	ck_assert_int_eq(console_stdio_create(&console, &wiring, &err), 0);
}

#define MUCH 300000 /* more than the ring and a pipe hold */

static void world_reads_late(void)
{
	usleep(100000);
	expect_pattern(host_out, MUCH);
}

static void *guest_writes_much(void *arg)
{
	(void)arg;
	guest_put_pattern(MUCH);
	return NULL;
}

START_TEST(a_pipe_that_is_read_late_gets_every_byte)
{
	pthread_t guest;

	use_pipes();
	ck_assert_int_eq(pthread_create(&guest, NULL, guest_writes_much, NULL), 0);
	run(world_reads_late);
	pthread_join(guest, NULL);
	/* The pipe is shared with others: its own flags are as they were. */
	ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

static void world_sends_before_the_guest_listens(void)
{
	send_all(host_in, "early \x01x words");
	close(host_in);
	usleep(50000);
	guest_open();
	guest_expect("early \x01x words");
	ck_assert_int_eq(guest_get(50), -1);
	guest_puts("still here");
	expect_text(host_out, "still here");
}

START_TEST(a_pipe_has_no_escape_and_its_end_ends_input_only)
{
	use_pipes();
	run(world_sends_before_the_guest_listens);
	ck_assert_uint_eq(quits, 0);
}
END_TEST

static void world_closes_its_reader(void)
{
	close(host_out);
	guest_put_pattern(MUCH);
}

START_TEST(a_reader_that_goes_away_does_not_stall_the_guest)
{
	use_pipes();
	run(world_closes_its_reader);
}
END_TEST

static void world_reads_a_file(void)
{
	guest_open();
	for (uint32_t i = 0; i < 20000; i++)
		ck_assert_int_eq(guest_get(30000), pattern(i));
	ck_assert_int_eq(guest_get(50), -1);
	guest_puts("done");
}

START_TEST(regular_files_serve_as_standard_input_and_output)
{
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	char text[8] = {0};

	for (uint32_t i = 0; i < 20000; i++) {
		uint8_t byte = pattern(i);

		ck_assert_int_eq(write(fd, &byte, 1), 1);
	}
	lseek(fd, 0, SEEK_SET);
	dup2(fd, STDIN_FILENO);
	close(fd);
	ck_assert_int_eq(unlink(path), 0);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	dup2(fd, STDOUT_FILENO);
	ck_assert_int_eq(console_stdio_create(&console, &wiring, &err), 0);
	run(world_reads_a_file);
	end_console();
	ck_assert_int_eq(pread(fd, text, sizeof(text), 0), 4);
	ck_assert_str_eq(text, "done");
}
END_TEST

/* ---- a terminal ---- */

static int terminal; /* the user's end */

static void use_terminal(struct termios *before)
{
	int slave;

	terminal = posix_openpt(O_RDWR | O_NOCTTY);
	ck_assert_int_ge(terminal, 0);
	ck_assert_int_eq(grantpt(terminal), 0);
	ck_assert_int_eq(unlockpt(terminal), 0);
	slave = open(ptsname(terminal), O_RDWR | O_NOCTTY);
	ck_assert_int_ge(slave, 0);
	dup2(slave, STDIN_FILENO);
	dup2(slave, STDOUT_FILENO);
	close(slave);
	ck_assert_int_eq(tcgetattr(STDIN_FILENO, before), 0);
	ck_assert_int_eq(console_stdio_create(&console, &wiring, &err), 0);
}

static void world_types(void)
{
	guest_open();
	send_all(terminal, "ls\x03\x04\r");
	guest_expect("ls\x03\x04\r");
	send_all(terminal, "\x01");
	ck_assert_int_eq(guest_get(50), -1);
	send_all(terminal, "a-\x01\x01-\x01z");
	guest_expect("\x01-\x01-\x01z");
	guest_puts("hello\r\n");
	expect_text(terminal, "hello\r\n");
	ck_assert_uint_eq(quits, 0);
	send_all(terminal, "\x01x");
	for (unsigned i = 0; i < 30000 && !quits; i++)
		usleep(1000);
}

START_TEST(a_terminal_passes_every_key_but_the_escape_and_is_given_back)
{
	struct termios before, during, after;

	use_terminal(&before);
	ck_assert_int_eq(tcgetattr(STDIN_FILENO, &during), 0);
	ck_assert_int_eq(during.c_lflag & (ICANON | ISIG | ECHO), 0);
	run(world_types);
	ck_assert_uint_eq(quits, 1);
	end_console();
	ck_assert_int_eq(tcgetattr(STDIN_FILENO, &after), 0);
	ck_assert_uint_eq(after.c_lflag, before.c_lflag);
	ck_assert_uint_eq(after.c_iflag, before.c_iflag);
	ck_assert_uint_eq(after.c_oflag, before.c_oflag);
	ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

static void world_hammers_a_dead_guest(void)
{
	char keys[512];

	memset(keys, 'k', sizeof(keys));
	for (unsigned i = 0; i < 6; i++)
		ck_assert_int_eq(write(terminal, keys, sizeof(keys)), (ssize_t)sizeof(keys));
	usleep(1300000);
	send_all(terminal, "\x01x");
	for (unsigned i = 0; i < 30000 && !quits; i++)
		usleep(1000);
}

START_TEST(the_escape_works_while_the_guest_reads_nothing)
{
	struct termios before;

	use_terminal(&before);
	run(world_hammers_a_dead_guest);
	ck_assert_uint_eq(quits, 1);
}
END_TEST

/* ---- socket ---- */

static int client(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Connected, and the console knows: what the guest says from now on arrives. */
static int served_client(void)
{
	int fd = client();

	for (unsigned i = 0; i < 2000; i++) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};

		guest_puts(".");
		if (poll(&pfd, 1, 2) == 1) {
			char byte;

			guest_puts("!");
			do
				read_exactly(fd, &byte, 1);
			while (byte == '.');
			ck_assert_int_eq(byte, '!');
			return fd;
		}
	}
	ck_abort_msg("the console serves no client");
}

static void world_uses_the_socket(void)
{
	struct stat st;
	int first, second;
	char byte;

	guest_put_pattern(MUCH); /* nobody is there: nothing stalls */
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	guest_open();
	first = served_client();
	send_all(first, "typed");
	guest_expect("typed");
	second = client();
	expect_text(second, "bulkhead: this console has a client already\r\n");
	ck_assert_int_eq(read(second, &byte, 1), 0);
	close(second);
	guest_puts("for the first");
	expect_text(first, "for the first");
	send_all(first, "last order"); /* is still carried out */
	close(first);
	guest_expect("last order");
	second = served_client();
	shutdown(second, SHUT_WR); /* says nothing, still listens */
	usleep(20000);
	guest_puts("for the second");
	expect_text(second, "for the second");
	close(second);
	first = served_client();
	close(first);
}

START_TEST(a_socket_serves_one_client_after_the_other)
{
	ck_assert_int_eq(console_socket_create(&console, &wiring, path, &err), 0);
	run(world_uses_the_socket);
	end_console();
	ck_assert_int_lt(access(path, F_OK), 0);
}
END_TEST

static void world_leaves_the_socket_full(void)
{
	int fd = served_client(), next;

	for (unsigned idle = 0; idle < 50; idle++) { /* until socket and ring are full */
		while (serial_bus_ops.read(&serial, LSR, 1) & 0x20) {
			serial_bus_ops.write(&serial, DATA, 1, 'x');
			idle = 0;
		}
		usleep(1000);
	}
	send_all(fd, "never read");
	close(fd);
	next = served_client();
	guest_puts("fresh");
	expect_text(next, "fresh");
	close(next);
}

START_TEST(a_client_that_stops_reading_and_leaves_makes_way)
{
	ck_assert_int_eq(console_socket_create(&console, &wiring, path, &err), 0);
	run(world_leaves_the_socket_full);
}
END_TEST

START_TEST(a_stale_socket_is_replaced_and_a_live_one_or_a_file_is_not)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_lt(console_socket_create(&console, &wiring, path, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_ALREADY_EXISTS);
	close(fd);
	ck_assert_int_eq(console_socket_create(&console, &wiring, path, &err), 0);
	/* Somebody puts another file there: it is not ours to remove. */
	ck_assert_int_eq(unlink(path), 0);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	end_console();
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_lt(console_socket_create(&console, &wiring, path, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_ALREADY_EXISTS);
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_path_longer_than_a_unix_sockets_is_refused_with_the_limit)
{
	char long_path[200];

	memset(long_path, 'p', sizeof(long_path));
	long_path[0] = '/';
	long_path[108] = '\0';
	ck_assert_int_lt(console_socket_create(&console, &wiring, long_path, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_BAD_REQUEST);
	ck_assert_ptr_nonnull(strstr(err.text, "107"));
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("console");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, a_file_is_appended_to_and_holds_the_last_words);
	tcase_add_test(tc, a_file_that_cannot_be_opened_is_named);
	tcase_add_test(tc, a_pipe_that_is_read_late_gets_every_byte);
	tcase_add_test(tc, a_pipe_has_no_escape_and_its_end_ends_input_only);
	tcase_add_test(tc, a_reader_that_goes_away_does_not_stall_the_guest);
	tcase_add_test(tc, regular_files_serve_as_standard_input_and_output);
	tcase_add_test(tc, a_terminal_passes_every_key_but_the_escape_and_is_given_back);
	tcase_add_test(tc, the_escape_works_while_the_guest_reads_nothing);
	tcase_add_test(tc, a_socket_serves_one_client_after_the_other);
	tcase_add_test(tc, a_client_that_stops_reading_and_leaves_makes_way);
	tcase_add_test(tc, a_stale_socket_is_replaced_and_a_live_one_or_a_file_is_not);
	tcase_add_test(tc, a_path_longer_than_a_unix_sockets_is_refused_with_the_limit);
	return run_tests("console", tc, NULL);
}
