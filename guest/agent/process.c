/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making processes. See process.h.
 *
 * Users are looked up in /etc/passwd and /etc/group by hand: the C library's way would load modules that a static
 * program cannot bring along.
 */
#include "guest/agent/process.h"

#include "guest/agent/events.h"
#include "vmm/base/util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define GROUPS_MAX 64
#define ENV_MAX	   1100

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	size_t group_count;
	char name[64], home[256], shell[256];
};

static void set_oom_score(const char *score)
{
	_cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	ssize_t ignored = fd >= 0 ? write(fd, score, strlen(score)) : 0;

	(void)ignored; /* without root there is no such protection */
}

void process_protect(void)
{
	set_oom_score("-1000");
}

void process_unprotect(void)
{
	set_oom_score("0");
}

#define FILES_WANTED 4096

static struct rlimit files_before;

void process_raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files_before) < 0)
		return;
	files = files_before;
	if (files.rlim_max < FILES_WANTED)
		files.rlim_max = FILES_WANTED;
	if (files.rlim_cur < FILES_WANTED)
		files.rlim_cur = FILES_WANTED;
	if (setrlimit(RLIMIT_NOFILE, &files) == 0)
		return;
	files.rlim_cur = files.rlim_max = files_before.rlim_max; /* not root: what there is */
	setrlimit(RLIMIT_NOFILE, &files);
}

void process_give_limits(void)
{
	/* The kernel starts process 1 with 1024 and 4096. The first stays, for programs that still use select(). */
	struct rlimit files = {.rlim_cur = 1024, .rlim_max = 1048576};

	setrlimit(RLIMIT_NOFILE, &files);
}

/* close_range() came with Linux 5.9. */
static void close_from(int first)
{
	if (syscall(SYS_close_range, first, ~0u, 0) == 0)
		return;
	for (int fd = first; fd < 65536; fd++)
		close(fd);
}

void process_become_worker(int keep)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	if (keep > 3)
		syscall(SYS_close_range, 3, keep - 1, 0);
	syscall(SYS_close_range, keep + 1, ~0u, 0);
	process_unprotect();
}

static bool parse_id(const char *text, unsigned *id)
{
	char *end;
	unsigned long value;

	if (!isdigit((unsigned char)*text))
		return false;
	value = strtoul(text, &end, 10);
	*id = (unsigned)value;
	return !*end && value < UINT32_MAX;
}

/* The fields of a line "a:b:c"; missing ones are empty. */
static void split_fields(char *line, char **fields, unsigned count)
{
	line[strcspn(line, "\n")] = '\0';
	for (unsigned i = 0; i < count; i++)
		fields[i] = line ? strsep(&line, ":") : (char *)(uintptr_t) "";
}

static void find_groups(struct identity *id)
{
	FILE *file = fopen("/etc/group", "re");
	char line[4096], *fields[4], *member, *list;

	id->groups[0] = id->gid;
	id->group_count = 1;
	while (file && fgets(line, sizeof(line), file) && id->group_count < GROUPS_MAX) {
		unsigned gid;

		split_fields(line, fields, ARRAY_SIZE(fields));
		list = fields[3];
		if (!parse_id(fields[2], &gid))
			continue;
		while ((member = strsep(&list, ",")))
			if (!strcmp(member, id->name) && id->group_count < GROUPS_MAX)
				id->groups[id->group_count++] = gid;
	}
	if (file)
		fclose(file);
}

/* A name or a number of /etc/passwd; a number that is not there is taken as it is, "uid:gid" too. */
static int find_user(const char *user, struct identity *id, struct error *err)
{
	FILE *file = fopen("/etc/passwd", "re");
	char line[1024], *fields[7];
	unsigned uid = 0, gid = 0;
	bool number = parse_id(user, &uid), found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		unsigned its_uid;

		split_fields(line, fields, ARRAY_SIZE(fields));
		if (!parse_id(fields[2], &its_uid) || !parse_id(fields[3], &gid))
			continue;
		found = number ? its_uid == uid : !strcmp(fields[0], user);
		if (found) {
			id->uid = its_uid;
			id->gid = gid;
			snprintf(id->name, sizeof(id->name), "%s", fields[0]);
			snprintf(id->home, sizeof(id->home), "%s", fields[5]);
			snprintf(id->shell, sizeof(id->shell), "%s", fields[6]);
		}
	}
	if (file)
		fclose(file);
	if (found)
		return 0;
	snprintf(id->home, sizeof(id->home), "/");
	snprintf(id->name, sizeof(id->name), "%.63s", user);
	if (number) {
		id->uid = id->gid = uid;
		return 0;
	}
	if (sscanf(user, "%u:%u", &uid, &gid) == 2) {
		id->uid = uid;
		id->gid = gid;
		return 0;
	}
	return error_set(err, ERROR_NOT_FOUND, "user '%.64s' is not in /etc/passwd", user);
}

static int become_user(const struct program *program, struct identity *id, struct error *err)
{
	int ret;

	*id = (struct identity){.name = "root", .home = "/root", .shell = "/bin/sh"};
	if (!program->user)
		return 0;
	ret = find_user(program->user, id, err);
	if (ret)
		return ret;
	find_groups(id);
	if (setgroups(id->group_count, id->groups) < 0 ||
		setresgid(id->gid, id->gid, id->gid) < 0 ||
		setresuid(id->uid, id->uid, id->uid) < 0)
		return error_errno(err, errno, "cannot become user '%.64s'", program->user);
	return 0;
}

/* What was given wins over the default of the same name. */
static char **make_env(const struct program *program, const struct identity *id)
{
	static char text[4][320];
	static char *env[ENV_MAX + 8];
	unsigned count = 0, given = 0;

	for (; program->env && program->env[given] && given < ENV_MAX; given++)
		env[count++] = program->env[given];
	snprintf(text[0], sizeof(text[0]),
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	snprintf(text[1], sizeof(text[1]), "HOME=%s", id->home);
	snprintf(text[2], sizeof(text[2]), "USER=%s", id->name);
	snprintf(text[3], sizeof(text[3]), "LANG=C.UTF-8");
	for (unsigned i = 0; i < ARRAY_SIZE(text); i++) {
		size_t len = strcspn(text[i], "=") + 1;
		bool own = true;

		for (unsigned j = 0; j < given; j++)
			own = own && strncmp(env[j], text[i], len) != 0;
		if (own)
			env[count++] = text[i];
	}
	env[count] = NULL;
	return env;
}

static int enter_cgroup(const char *folder)
{
	char path[320];
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "0", 1) < 0 ? -errno : 0;
}

/* The three to 0, 1 and 2: by way of numbers above them, so that none overwrites another's source. */
static void place_descriptors(const struct program *program)
{
	int fds[3] = {program->in, program->out, program->error};

	for (int i = 0; i < 3; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
	for (int i = 0; i < 3; i++)
		dup2(fds[i], i);
}

int process_exec(const struct program *program, int keep, struct error *err)
{
	int kept = keep >= 0 ? fcntl(keep, F_DUPFD_CLOEXEC, 10) : -1;
	struct identity id;
	char **env;
	int ret;

	place_descriptors(program);
	if (keep >= 3)
		close(keep);
	setsid();
	if (program->terminal)
		ioctl(STDIN_FILENO, TIOCSCTTY, 1);
	process_unprotect();
	if (files_before.rlim_max)
		setrlimit(RLIMIT_NOFILE, &files_before);
	if (program->cgroup)
		enter_cgroup(
			program->cgroup); /* best effort: a guest without cgroup2 runs it all the same */
	ret = become_user(program, &id, err);
	if (ret)
		goto failed;
	if (chdir(program->cwd ? program->cwd : "/") < 0) {
		ret = error_errno(err, errno, "cannot enter the folder '%.128s'", program->cwd);
		goto failed;
	}
	if (program->dies_with_us)
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user would have undone it */
	umask(022);
	env = make_env(program, &id);
	if (syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) < 0 && kept < 0)
		close_from(3);
	/* The path is looked for in the new program's own PATH, not in ours. */
	environ = env;
	execvpe(program->argv[0], program->argv, env);
	ret = error_errno(err, errno, "cannot run '%.128s'", program->argv[0]);
failed:
	if (keep >= 0 && kept >= 0 && dup2(kept, keep) < 0)
		return ret;
	return ret;
}
