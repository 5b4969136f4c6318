/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead top`: the loop. See top.h for the parts.
 *
 * An interval begins with a question to each VM. The table is shown when all have answered, or a while later without those that
 * have not: so one VM that hangs delays it by that while, and by no more however many hang. Then what comes is read until
 * the next interval begins.
 *
 * On a terminal the table is repainted in place, on its alternate screen; anywhere else, and with --batch, one table follows the other
 * as plain lines. Signals and keys are descriptors of the same poll(), so the terminal is always given back.
 */
#include "vmm/cli/top.h"

#include "vmm/base/util.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/help.h"
#include "vmm/cli/report.h"
#include "vmm/schema/schema.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define VMS_MAX	    1024
#define FIND_NS	    2000000000ull /* between two searches */
#define ANSWER_NS   300000000ull  /* for an answer, before the table is shown without it */
#define ENDED_SHOWN 3		  /* tables in which a VM that ended is still to be seen */

struct top {
	struct top_options options;
	bool search, screen, raw, quit, shown;
	struct termios cooked;
	int signal_fd;
	unsigned intervals, tables, count;
	struct top_vm *vms[VMS_MAX];
	struct pollfd polls[2 + 2 * VMS_MAX];
	uint64_t tick_ns;     /* the next interval begins */
	uint64_t patience_ns; /* the table is shown without who has not answered */
	uint64_t find_ns;     /* the next search */
};

/* ---- the terminal ---- */

static void screen_begin(struct top *top)
{
	struct termios raw;

	top->screen = !top->options.batch && isatty(STDOUT_FILENO);
	if (!top->screen)
		return;
	fputs("\033[?1049h\033[?25l", stdout); /* the alternate screen, no cursor */
	fflush(stdout);
	if (tcgetattr(STDIN_FILENO, &top->cooked) < 0)
		return; /* keys come from elsewhere: only signals end it */
	raw = top->cooked;
	raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
	top->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static void screen_end(struct top *top)
{
	if (top->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &top->cooked);
	if (top->screen) {
		fputs("\033[?25h\033[?1049l", stdout);
		fflush(stdout);
	}
}

/* Line by line, each cleared to its end, so that nothing flickers; what does not fit stays out. */
static void repaint(const char *text)
{
	struct winsize size = {0};
	unsigned rows;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row)
		size.ws_row = 24;
	rows = size.ws_row;
	fputs("\033[H", stdout);
	for (unsigned row = 0; row < rows && *text; row++) {
		size_t len = strcspn(text, "\n");

		printf("%s%.*s\033[K", row ? "\r\n" : "", (int)len, text);
		text += len + (text[len] == '\n');
	}
	fputs("\033[J", stdout);
}

static unsigned screen_width(const struct top *top)
{
	struct winsize size = {0};

	if (!top->screen || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		return 0;
	return size.ws_col;
}

static void print_table(struct top *top)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = top->screen ? open_memstream(&text, &size) : stdout;

	if (!to)
		return;
	if (!top->screen && top->tables > 1)
		fputc('\n', to);
	top_table_print(to, top->vms, top->count, screen_width(top));
	if (top->screen) {
		fclose(to);
		repaint(text ? text : "");
		free(text);
	}
	fflush(stdout);
}

/* ---- the VMs ---- */

static bool same_socket(const char *one, const char *other)
{
	struct stat a, b;

	return !strcmp(one, other) || (stat(one, &a) == 0 && stat(other, &b) == 0 &&
					      a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

static void add_vm(struct top *top, const char *path, bool given)
{
	struct top_vm *vm;

	for (unsigned i = 0; i < top->count; i++)
		if (same_socket(top->vms[i]->path, path))
			return;
	if (top->count == VMS_MAX)
		return;
	vm = top_vm_new(path, given);
	if (vm)
		top->vms[top->count++] = vm;
}

static void found(void *owner, const char *path)
{
	add_vm(owner, path, false);
}

/* Those that have been seen to end; and of those that were found, whom we may not ask. */
static void drop_gone(struct top *top)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < top->count; i++) {
		struct top_vm *vm = top->vms[i];
		bool ended = vm->state == TOP_ENDED && vm->shown > ENDED_SHOWN;

		if (!vm->given && (ended || vm->state == TOP_ABSENT)) {
			top_vm_free(vm);
			continue;
		}
		if (ended)
			vm->state = TOP_ABSENT;
		top->vms[kept++] = vm;
	}
	top->count = kept;
}

static bool all_answered(const struct top *top)
{
	for (unsigned i = 0; i < top->count; i++)
		if (top->vms[i]->link.waits && top->vms[i]->state != TOP_SILENT)
			return false;
	return true;
}

/* ---- the loop ---- */

static void begin_interval(struct top *top, uint64_t now)
{
	top->intervals++;
	top->tick_ns = now + top->options.interval_ms * 1000000ull;
	top->patience_ns = now + min_u64(ANSWER_NS, top->options.interval_ms * 500000ull);
	top->shown = false;
	if (top->search && now >= top->find_ns) {
		top->find_ns = now + FIND_NS;
		top_find(found, top);
	}
	for (unsigned i = 0; i < top->count; i++)
		top_vm_ask(top->vms[i]);
}

static void show(struct top *top, uint64_t now)
{
	top->shown = true;
	for (unsigned i = 0; i < top->count; i++) {
		top_vm_settle(top->vms[i]);
		top_vm_ask_guest(top->vms[i], top->options.guest_ms, now);
	}
	drop_gone(top);
	/* The first answers have no rates: for who watches they are better than nothing, in a script they are noise. */
	if (!top->screen && top->intervals == 1)
		return;
	top->tables++;
	print_table(top);
	if (ferror(stdout) || (top->options.count && top->tables >= top->options.count))
		top->quit = true;
}

static void take_signal(struct top *top)
{
	struct signalfd_siginfo info;

	if (read(top->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGWINCH:
		if (top->screen && top->tables)
			print_table(top);
		break;
	case SIGTSTP:
		screen_end(top);
		raise(SIGSTOP);
		screen_begin(top);
		break;
	default:
		top->quit = true;
	}
}

static void take_keys(struct top *top)
{
	char keys[64];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n <= 0) {
		top->raw = false; /* nobody types any more */
		return;
	}
	top->quit |= memchr(keys, 'q', (size_t)n) != NULL;
}

static void watch(struct pollfd *poll, const struct top_link *link)
{
	*poll = (struct pollfd){.fd = link->fd, .events = top_link_events(link)};
}

/* Until `end_ns` at the latest. */
static void wait_and_take(struct top *top, uint64_t end_ns)
{
	uint64_t now = now_ns(), left = end_ns > now ? end_ns - now : 0;
	unsigned count = top->count;

	top->polls[0] = (struct pollfd){.fd = top->signal_fd, .events = POLLIN};
	top->polls[1] = (struct pollfd){.fd = top->raw ? STDIN_FILENO : -1, .events = POLLIN};
	for (unsigned i = 0; i < count; i++) {
		watch(&top->polls[2 + 2 * i], &top->vms[i]->link);
		watch(&top->polls[3 + 2 * i], &top->vms[i]->guest);
	}
	if (poll(top->polls, 2 + 2 * count, (int)((left + 999999) / 1000000)) <= 0)
		return;
	for (unsigned i = 0; i < count; i++) {
		struct top_vm *vm = top->vms[i];

		/* What one says may close the other. */
		if (top->polls[2 + 2 * i].revents && vm->link.fd >= 0)
			top_vm_ready(vm, &vm->link);
		if (top->polls[3 + 2 * i].revents && vm->guest.fd >= 0)
			top_vm_ready(vm, &vm->guest);
	}
	if (top->polls[0].revents)
		take_signal(top);
	if (top->polls[1].revents)
		take_keys(top);
}

static void run(struct top *top)
{
	while (!top->quit) {
		uint64_t now = now_ns();

		if (now >= top->tick_ns)
			begin_interval(top, now);
		if (!top->shown && (now >= top->patience_ns || all_answered(top)))
			show(top, now);
		if (!top->quit)
			wait_and_take(top, top->shown ? top->tick_ns : top->patience_ns);
	}
}

/* ---- the command ---- */

static int signals_open(struct top *top, struct error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGTSTP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	top->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return top->signal_fd < 0 ? error_errno(err, errno, "cannot make a signal descriptor") : 0;
}

/* Whether the user named VMs, and not one of them was there. */
static int judge(const struct top *top, struct error *err)
{
	if (ferror(stdout))
		return error_errno(err, EPIPE, "cannot write to standard output");
	if (top->search)
		return 0;
	for (unsigned i = 0; i < top->count; i++)
		if (*top->vms[i]->now.name)
			return 0;
	error_set(err, ERROR_NOT_FOUND, "no VM answers at '%.128s'%s", top->vms[0]->path,
		top->count > 1 ? " or the others" : "");
	return error_hint(err, "does the VM run, with this --control?");
}

/* Flags and their values to `flags`; anything else is a socket. */
static int parse(struct top *top, int argc, char *const *argv, bool *help, struct error *err)
{
	const struct schema *table = commands[COMMAND_TOP].options;
	_cleanup_free_ char **flags = calloc((size_t)argc + 1, sizeof(*flags));
	int count = 0, ret;
	json_t *object;

	if (!flags)
		return error_errno(err, ENOMEM, "top");
	for (int i = 0; i < argc; i++) {
		const struct schema *option;

		if (strncmp(argv[i], "-", 1) != 0) {
			add_vm(top, argv[i], true);
			continue;
		}
		option = !strncmp(argv[i], "--", 2) ? schema_find(table, argv[i] + 2) : NULL;
		flags[count++] = argv[i];
		if (option && option->type != SCHEMA_BOOL && i + 1 < argc)
			flags[count++] = argv[++i];
	}
	ret = schema_args(table, count, flags, &object, help, err);
	if (ret)
		return ret;
	ret = schema_fill(table, object, &top->options, "", err);
	json_decref(object);
	return ret;
}

int top_main(int argc, char *const *argv)
{
	static struct top top = {.signal_fd = -1};
	struct error err;
	bool help;
	int ret;

	if (parse(&top, argc, argv, &help, &err)) {
		cli_report(&err);
		return CLI_USAGE;
	}
	if (help) {
		help_print_command(stdout, &commands[COMMAND_TOP]);
		return CLI_OK;
	}
	top.search = !top.count;
	top.options.batch |= top.options.once;
	if (top.options.once)
		top.options.count = 1;
	ret = signals_open(&top, &err);
	if (!ret) {
		screen_begin(&top);
		run(&top);
		screen_end(&top);
		ret = judge(&top, &err);
	}
	for (unsigned i = 0; i < top.count; i++)
		top_vm_free(top.vms[i]);
	cleanup_close(&top.signal_fd);
	if (!ret)
		return CLI_OK;
	cli_report(&err);
	return CLI_FAILED;
}
