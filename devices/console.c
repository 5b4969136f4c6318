/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pumps between the serial port and a pair of descriptors, and the file back end.
 *
 * Output. The vCPU that sends the first byte wakes the loop, which waits a tick of 1 ms before it
 * writes, and goes on ticking until a tick finds nothing: one wake-up and a few writes for a burst
 * of thousands of bytes, and nobody can see the millisecond. While bytes only trickle the tick
 * doubles up to 16 ms, one frame of a screen, so that a slow guest is not followed byte by byte. A
 * reader that is slow (EAGAIN) is waited for with a poll; the serial port then holds the guest back.
 * No write here can block: back ends hand over descriptors that are non-blocking or of a kind that
 * does not wait (regular files).
 *
 * Input. At most CONSOLE_INPUT bytes are held for the guest, the rest waits where it comes from.
 * There is one exception: on a terminal the user must be able to end a VM that does not read. So
 * when that much is held and the guest takes nothing for a second, what is typed is looked at for the
 * escape and otherwise dropped, until the guest reads again.
 *
 * A regular file cannot be polled and is always ready: it is read whenever there is room, which the
 * pump does in any case.
 */
#include "devices/console_internal.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define TICK_NS	     1000000ull	   /* the first after silence ... */
#define TICK_MOST_NS 16000000ull   /* ... and the longest, while bytes keep trickling */
#define RETRY_NS     10000000ull   /* where a descriptor says EAGAIN but cannot be polled */
#define DEAF_NS	     1000000000ull /* from here on a terminal's keys are dropped */
#define DRAIN_WRITES 16		   /* in one tick */
#define FLUSH_NS     1000000000ull /* the most that destroying waits for a reader */

static void arm_tick(struct console *console, uint64_t after_ns)
{
	loop_timer_set(console->wiring.loop, &console->tick, now_ns() + after_ns);
}

/* Any thread. */
static void output_waits(void *owner)
{
	struct console *console = owner;

	if (!atomic_exchange(&console->awake, true) &&
		!atomic_exchange(&console->wake_posted, true))
		loop_post(console->wiring.loop, &console->wake_job);
}

static void wake_run(struct loop_job *job)
{
	struct console *console = container_of(job, struct console, wake_job);

	atomic_store(&console->wake_posted, false);
	console->tick_ns = TICK_NS;
	arm_tick(console, TICK_NS);
}

static bool refill(struct console *console)
{
	if (console->chunk_at == console->chunk_len) {
		console->chunk_at = 0;
		console->chunk_len =
			serial_take(console->wiring.serial, console->chunk, sizeof(console->chunk));
	}
	return console->chunk_len != 0;
}

static ssize_t write_some(struct console *console)
{
	const uint8_t *data = console->chunk + console->chunk_at;
	size_t len = console->chunk_len - console->chunk_at;

	if (console->out_socket)
		return send(console->out_fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return write(console->out_fd, data, len);
}

/*
 * Write what there is, within bounds: a guest that never stops must not keep the loop's other work
 * waiting. Returns how many bytes went out, or a negative errno.
 */
static ssize_t drain(struct console *console)
{
	ssize_t wrote = 0;

	for (unsigned i = 0; i < DRAIN_WRITES && console->out_fd >= 0 && refill(console); i++) {
		ssize_t n = write_some(console);

		if (n >= 0) {
			console->chunk_at += (size_t)n;
			wrote += n;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return wrote;
}

static void wait_writable(struct console *console)
{
	struct io_uring_sqe *sqe = loop_sqe(console->wiring.loop);

	io_uring_prep_poll_add(sqe, console->out_fd, POLLOUT);
	loop_bind(sqe, &console->writable);
	console->blocked = true;
}

static void pump_output(struct console *console)
{
	ssize_t ret = drain(console);

	if (ret == -EAGAIN) {
		wait_writable(console);
		return;
	}
	if (ret < 0) {
		console->chunk_at = console->chunk_len = 0;
		console->ops->output_failed(console, (int)-ret);
	}
	if (ret != 0) {
		bool trickle = ret > 0 && ret < CONSOLE_CHUNK;

		console->tick_ns = trickle ? min_u64(console->tick_ns * 2, TICK_MOST_NS) : TICK_NS;
		arm_tick(console, console->tick_ns);
		return;
	}
	/* Sleep; but a byte that came between the drain and the store has told nobody. */
	atomic_store(&console->awake, false);
	if (console->out_fd >= 0 && refill(console)) {
		atomic_store(&console->awake, true);
		arm_tick(console, TICK_NS);
	}
}

static void tick_fired(struct loop_timer *timer)
{
	struct console *console = container_of(timer, struct console, tick);

	if (!console->blocked)
		pump_output(console);
}

static void cancelled(struct console *console)
{
	atomic_store(&console->awake, false);
	if (console->ops->output_cancelled)
		console->ops->output_cancelled(console);
}

static void writable_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct console *console = container_of(op, struct console, writable);

	(void)flags;
	console->blocked = false;
	if (console->out_fd < 0)
		cancelled(console);
	else if (res < 0)
		arm_tick(console, RETRY_NS);
	else
		pump_output(console);
}

void console_output_cancel(struct console *console)
{
	console->chunk_at = console->chunk_len = 0;
	console->out_fd = -1;
	if (!console->blocked)
		cancelled(console);
}

/* Any thread. */
static void input_room(void *owner)
{
	struct console *console = owner;

	if (!atomic_exchange(&console->room_posted, true))
		loop_post(console->wiring.loop, &console->room_job);
}

static void room_run(struct loop_job *job)
{
	struct console *console = container_of(job, struct console, room_job);

	atomic_store(&console->room_posted, false);
	console_pump_input(console);
}

/* Hand over what was read, as far as the guest takes it. */
static void deliver(struct console *console)
{
	size_t held = console->input_len - console->input_at, taken;

	if (!held)
		return;
	taken = serial_offer(console->wiring.serial, console->input + console->input_at, held);
	console->input_at += taken;
	if (taken) {
		console->dropping = false;
		loop_timer_clear(console->wiring.loop, &console->deaf);
	}
}

/* Move what is held to the buffer's start. Returns the room behind it. */
static size_t input_room_left(struct console *console)
{
	console->input_len -= console->input_at;
	memmove(console->input, console->input + console->input_at, console->input_len);
	console->input_at = 0;
	return console->input_len < CONSOLE_INPUT ? CONSOLE_INPUT - console->input_len : 0;
}

/* Read once into `room` bytes behind what is held (0: look for escapes only). Returns read(2)'s answer. */
static ssize_t read_some(struct console *console, size_t room)
{
	uint8_t scrap[256 + 1];
	uint8_t *data = room ? console->input + console->input_len : scrap;
	size_t size = room ? room : sizeof(scrap) - 1, kept;
	ssize_t n = console->in_socket ? recv(console->in_fd, data, size, MSG_DONTWAIT)
				       : read(console->in_fd, data, size);

	if (n <= 0)
		return n;
	kept = console->ops->filter ? console->ops->filter(console, data, (size_t)n) : (size_t)n;
	if (room)
		console->input_len += kept;
	return n;
}

void console_pump_input(struct console *console)
{
	deliver(console);
	while (console->in_fd >= 0) {
		size_t room = input_room_left(console);
		ssize_t n;

		if (!room && !console->dropping) {
			if (console->keep_reading && !console->deaf.deadline_ns)
				loop_timer_set(
					console->wiring.loop, &console->deaf, now_ns() + DEAF_NS);
			return;
		}
		n = read_some(console, room);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n == 0 || (n < 0 && errno != EINTR)) {
			console->in_fd = -1;
			console->ops->input_ended(console, n < 0 ? errno : 0);
			return;
		}
		deliver(console);
	}
}

static void deaf_fired(struct loop_timer *timer)
{
	struct console *console = container_of(timer, struct console, deaf);

	console->dropping = true;
	console_pump_input(console);
}

static void input_ready(struct loop_poll *poll, uint32_t revents)
{
	(void)revents; /* errors and hang-ups show when reading */
	console_pump_input(container_of(poll, struct console, readable));
}

void console_watch_input(struct console *console)
{
	console->readable.fd = console->in_fd;
	console->readable.events = POLLIN;
	if (!console->readable.ready)
		console->readable.ready = input_ready;
	loop_poll_start(console->wiring.loop, &console->readable);
}

void console_start(struct console *console, const struct console_ops *ops,
	const struct console_wiring *wiring, int in_fd, int out_fd)
{
	const struct serial_host host = {
		.output = output_waits, .room = input_room, .owner = console};

	console->ops = ops;
	console->wiring = *wiring;
	console->in_fd = in_fd;
	console->out_fd = out_fd;
	console->wake_job.run = wake_run;
	console->tick.fire = tick_fired;
	console->writable.done = writable_done;
	console->room_job.run = room_run;
	console->deaf.fire = deaf_fired;
	serial_connect(wiring->serial, &host);
}

/* The last words of a guest that crashed must come out: wait for a slow reader, but not for ever. */
static void flush(struct console *console)
{
	uint64_t deadline = now_ns() + FLUSH_NS, now;
	ssize_t ret;

	do {
		struct pollfd pfd = {.fd = console->out_fd, .events = POLLOUT};

		ret = drain(console);
		now = now_ns();
		if (ret == -EAGAIN && now < deadline)
			poll(&pfd, 1, (int)((deadline - now) / 1000000) + 1);
	} while (ret > 0 || (ret == -EAGAIN && now < deadline));
	if (ret < 0)
		log_warn("the end of the console's output is lost: %s",
			ret == -EAGAIN ? "its reader does not read" : strerror((int)-ret));
}

void console_destroy(struct console *console)
{
	if (!console)
		return;
	flush(console);
	if (console->wiring.serial->dropped)
		log_warn("the console's reader was too slow: %llu bytes of output are lost",
			(unsigned long long)console->wiring.serial->dropped);
	serial_connect(console->wiring.serial, NULL);
	console->ops->destroy(console);
}

/* The file back end. */

static void file_input_ended(struct console *console, int errnum)
{
	(void)console;
	(void)errnum; /* a file console reads nothing */
}

/* A full disk may be mended while the VM runs: only what cannot be written now is lost. */
static void file_output_failed(struct console *console, int errnum)
{
	static struct log_limit limit;

	(void)console;
	log_write_limited(
		&limit, LOG_WARN, "cannot write the console's file: %s", strerror(errnum));
}

static void file_destroy(struct console *console)
{
	close(console->out_fd);
	free(console);
}

static const struct console_ops file_ops = {
	.input_ended = file_input_ended,
	.output_failed = file_output_failed,
	.destroy = file_destroy,
};

int console_file_create(struct console **out, const struct console_wiring *wiring, const char *path,
	struct error *err)
{
	/* Appended to: a VM that is started again must not wipe out why it ended. */
	_cleanup_close_ int fd =
		open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
	struct console *console;

	if (fd < 0 && errno == ENXIO)
		return error_set(err, ERROR_WRONG_STATE,
			"cannot open the console file '%s': nobody reads this fifo", path);
	if (fd < 0)
		return error_errno(err, errno, "cannot open the console file '%s'", path);
	console = calloc(1, sizeof(*console));
	if (!console)
		return error_errno(err, ENOMEM, "cannot create the console");
	console_start(console, &file_ops, wiring, -1, steal_fd(&fd));
	*out = console;
	return 0;
}
