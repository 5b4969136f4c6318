/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Process 1: boots the guest, supervises, reaps orphans, and ends it in order.
 *
 * It does not speak to clients itself: the agent is a supervised child of it (the same program, told so by an argument), so
 * that the parser of what comes from outside is not what the kernel panics without, and `kill -9` of the agent by
 * the guest's root only brings a new one. The two know each other by signals alone: `shutdown` is SIGRTMIN+4 or +5 to
 * process 1, as systemd has it. SIGTERM, SIGINT, SIGPWR, SIGUSR2 and the power button ask for power-off.
 *
 * The end: services in reverse order, then everybody else, then the mounts in reverse order, sync and reboot(2). Whatever
 * may block there is done by workers with time-outs: a dead disk does not keep the guest from ending.
 */
#include "guest/agent/init.h"

#include "guest/agent/boot.h"
#include "guest/agent/events.h"
#include "guest/agent/mountinfo.h"
#include "guest/agent/power.h"
#include "guest/agent/process.h"
#include "guest/agent/services.h"
#include "guest/agent/system.h"
#include "guest/agent/worker.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SERVICES_FOLDER "/etc/bulkhead/services.d"
#define STOP_TIMEOUT_MS 30000
#define OTHERS_MS	2000
#define UNMOUNT_MS	10000

static bool over, ending;
static int how = RB_POWER_OFF;
static struct child shell;
static struct timer shell_timer;

static void services_over(void)
{
	over = true;
}

static void begin_end(int end, unsigned timeout_ms)
{
	if (ending)
		return;
	ending = true;
	how = end;
	log_info("the guest ends: %s", end == RB_AUTOBOOT ? "reboot" : "power-off");
	services_stop(timeout_ms, services_over);
}

static void caught(int signal, int value)
{
	if (signal == SIGNAL_REBOOT || signal == SIGNAL_POWEROFF)
		begin_end(signal == SIGNAL_REBOOT ? RB_AUTOBOOT : RB_POWER_OFF,
			value > 0 ? (unsigned)value : STOP_TIMEOUT_MS);
	else
		begin_end(RB_POWER_OFF, STOP_TIMEOUT_MS);
}

static void button_pressed(void)
{
	begin_end(RB_POWER_OFF, STOP_TIMEOUT_MS);
}

static json_t *unmount_all(const void *params, struct error *err)
{
	size_t count;
	_cleanup_free_ struct mount_entry *entries = mountinfo_read(&count, err);

	(void)params;
	sync();
	for (size_t i = entries ? count : 0; i-- > 0;) {
		const char *path = entries[i].path;

		if (!strcmp(path, "/") || !strncmp(path, "/proc", 5) || !strncmp(path, "/dev", 4) ||
			!strncmp(path, "/sys", 4))
			continue;
		if (umount2(path, UMOUNT_NOFOLLOW) < 0 && mount_is_on_disk(&entries[i]))
			log_error("cannot unmount %s: %s", path, strerrordesc_np(errno));
	}
	/* The whole file system, not this mount alone: only on the machine's own root, never on a container's. */
	if (boot_is_machine() && mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
		log_error("cannot make / read-only: %s", strerrordesc_np(errno));
	sync();
	return json_true();
}

static void kill_others(void)
{
	uint64_t end = now_ns() + OTHERS_MS * (uint64_t)1000000;

	kill(-1, SIGTERM);
	kill(-1, SIGCONT);
	while (now_ns() < end && waitpid(-1, NULL, WNOHANG) >= 0)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, WNOHANG) > 0) {
		/* all that can be reaped */
	}
}

static _Noreturn void end(void)
{
	struct error err = {0};
	json_t *done;

	kill_others();
	done = worker_wait("unmount", unmount_all, NULL, UNMOUNT_MS, &err);
	if (!done)
		log_error("%s", err.text);
	reboot(how);
	log_error("reboot: %s", strerrordesc_np(errno));
	for (;;)
		pause();
}

static void shell_start(struct timer *timer)
{
	static char *argv[] = {(char *)(uintptr_t) "/bin/sh", NULL};
	pid_t pid = process_fork();

	if (!pid) {
		int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
		struct program program = {
			.argv = argv, .in = fd, .out = fd, .error = fd, .terminal = true};
		struct error err = {0};

		process_exec(&program, -1, &err);
		log_error("shell: %s", err.text);
		_exit(127);
	}
	shell.pid = pid;
	if (pid > 0)
		child_watch(&shell);
	else
		timer_set(timer, 1000);
}

static void shell_exited(struct child *child, const siginfo_t *info)
{
	(void)child;
	(void)info;
	timer_set(&shell_timer, 1000);
}

static void open_events(void)
{
	struct error err = {0};
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGPWR);
	sigaddset(&signals, SIGUSR2);
	sigaddset(&signals, SIGNAL_POWEROFF);
	sigaddset(&signals, SIGNAL_REBOOT);
	while (events_open(&signals, caught, &err)) {
		log_error("boot: %s", err.text);
		sleep(1); /* memory is short: nothing else can help, and to exit would panic the kernel */
	}
}

_Noreturn void init_main(const char *listen)
{
	static char *agent_argv[6];
	char *argv[] = {(char *)(uintptr_t) "/proc/self/exe", (char *)(uintptr_t) "--supervised",
		(char *)(uintptr_t) "--listen", (char *)(uintptr_t)listen, NULL};

	memcpy(agent_argv, argv, sizeof(argv));
	boot_mounts();
	process_protect();
	process_give_limits();
	umask(022);
	reboot(RB_DISABLE_CAD); /* Ctrl-Alt-Del becomes a SIGINT */
	open_events();
	boot_cgroups();
	boot_hostname();
	services_add_agent(agent_argv);
	boot_network();
	boot_fstab();
	services_start(SERVICES_FOLDER);
	power_watch(button_pressed);
	shell.exited = shell_exited;
	shell_timer.fire = shell_start;
	if (boot_argument("bulkhead.shell", NULL, 0))
		timer_set(&shell_timer, 0);
	events_run(&over);
	end();
}
