/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The epoll loop. See events.h.
 *
 * A round's events are kept in a static array, so that event_watch(…, 0) can strike out those that have not been
 * handed out yet: what is stopped is never called, and may be freed at once.
 *
 * Children are told by SIGCHLD and looked at with WNOWAIT; one that nobody watches (process 1 gets everybody's
 * orphans) is reaped unseen.
 */
#include "guest/agent/events.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define ROUND_MAX 64

static int epoll_fd = -1;
static struct event signal_event = {.fd = -1};
static void (*signal_caught)(int signal, int value);
static struct epoll_event round_events[ROUND_MAX];
static int round_count;
static struct timer *timers;
static struct child *children;

static struct child *find_child(pid_t pid)
{
	struct child *child = children;

	while (child && child->pid != pid)
		child = child->next;
	return child;
}

static void reap_children(void)
{
	siginfo_t info = {0};

	while (!waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid) {
		pid_t pid = info.si_pid;
		struct child *child = find_child(pid);

		if (child) {
			child_forget(child);
			child->exited(child, &info);
		}
		waitpid(pid, NULL, WNOHANG);
		info.si_pid = 0;
	}
}

static void signals_ready(struct event *event, uint32_t events)
{
	struct signalfd_siginfo info;
	bool child = false;

	(void)events;
	while (read(event->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			child = true;
		else
			signal_caught((int)info.ssi_signo, info.ssi_int);
	}
	if (child)
		reap_children();
}

int events_open(const sigset_t *signals, void (*caught)(int signal, int value), struct error *err)
{
	sigset_t all = *signals;

	sigaddset(&all, SIGCHLD);
	/* Whoever started us may have ignored some (a shell's background job: SIGINT), and those would never come. */
	for (int i = 1; i < SIGRTMIN; i++)
		if (sigismember(&all, i) == 1)
			signal(i, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &all, NULL) < 0)
		return error_errno(err, errno, "cannot block signals");
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	signal_event.fd = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
	if (epoll_fd < 0 || signal_event.fd < 0)
		return error_errno(err, errno, "cannot make the event loop");
	signal_event.ready = signals_ready;
	signal_caught = caught;
	event_watch(&signal_event, EPOLLIN);
	return 0;
}

void events_leave(void)
{
	sigset_t none;

	if (epoll_fd >= 0)
		close(epoll_fd);
	if (signal_event.fd >= 0)
		close(signal_event.fd);
	epoll_fd = signal_event.fd = -1;
	signal_event.mask = 0;
	timers = NULL;
	children = NULL;
	/* A command gets what a login would give it: a shell, say, cannot trap what was ignored when it began. */
	for (int i = 1; i < SIGRTMIN; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void event_watch(struct event *event, uint32_t mask)
{
	struct epoll_event wanted = {.events = mask, .data.ptr = event};
	int op = !mask ? EPOLL_CTL_DEL : event->mask ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (mask == event->mask)
		return;
	event->mask = mask;
	if (!mask)
		for (int i = 0; i < round_count; i++)
			if (round_events[i].data.ptr == event)
				round_events[i].data.ptr = NULL;
	if (epoll_ctl(epoll_fd, op, event->fd, &wanted) < 0)
		log_error("epoll_ctl: %s", strerrordesc_np(errno));
}

void timer_clear(struct timer *timer)
{
	struct timer **at = &timers;

	while (*at && *at != timer)
		at = &(*at)->next;
	if (*at)
		*at = timer->next;
	timer->deadline_ns = 0;
}

void timer_set(struct timer *timer, uint64_t ms)
{
	timer_clear(timer);
	timer->deadline_ns = now_ns() + ms * 1000000u;
	timer->next = timers;
	timers = timer;
}

static struct timer *due_timer(uint64_t now)
{
	for (struct timer *timer = timers; timer; timer = timer->next)
		if (timer->deadline_ns <= now)
			return timer;
	return NULL;
}

/* Until the nearest time-out, rounded up: a wait that ends too early would only be repeated. */
static int wait_ms(void)
{
	uint64_t now = now_ns(), nearest = UINT64_MAX;

	for (struct timer *timer = timers; timer; timer = timer->next)
		nearest = min_u64(nearest, timer->deadline_ns);
	if (nearest == UINT64_MAX)
		return -1;
	return nearest <= now ? 0 : (int)min_u64((nearest - now) / 1000000u + 1, 3600000);
}

void events_run(const bool *stop)
{
	while (!*stop) {
		struct timer *timer;

		round_count = epoll_wait(epoll_fd, round_events, ROUND_MAX, wait_ms());
		if (round_count < 0 && errno != EINTR) {
			log_error("epoll_wait: %s", strerrordesc_np(errno));
			nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
		}
		for (int i = 0; i < round_count && !*stop; i++) {
			struct event *event = round_events[i].data.ptr;

			if (event)
				event->ready(event, round_events[i].events);
		}
		round_count = 0;
		while (!*stop && (timer = due_timer(now_ns()))) {
			timer_clear(timer);
			timer->fire(timer);
		}
	}
}

void child_watch(struct child *child)
{
	child->next = children;
	children = child;
}

void child_forget(struct child *child)
{
	struct child **at = &children;

	while (*at && *at != child)
		at = &(*at)->next;
	if (*at)
		*at = child->next;
}
