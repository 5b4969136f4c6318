/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of process 1's boot. See boot.h.
 *
 * Nothing is mounted where something is mounted already (EBUSY): an initramfs may have done it. Disks are
 * mounted by workers: one that hangs costs its time-out, not the boot.
 */
#include "guest/agent/boot.h"

#include "guest/agent/files.h"
#include "guest/agent/identity.h"
#include "guest/agent/mounts.h"
#include "guest/agent/netlink.h"
#include "guest/agent/network.h"
#include "guest/agent/worker.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define MOUNT_TIMEOUT_MS 60000
#define PID_INIT_INO	 0xeffffffc /* of the first PID namespace: linux/proc_ns.h */

bool boot_is_machine(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino == PID_INIT_INO;
}

static void mount_early(const char *type, const char *path, unsigned long flags, const char *data)
{
	mkdir(path, 0755);
	if (mount(type, path, type, flags, data) < 0 && errno != EBUSY)
		log_error("boot: cannot mount %s: %s", path, strerrordesc_np(errno));
}

void boot_mounts(void)
{
	mount_early("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_early("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_early("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
	mount_early("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666");
	mount_early("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_early("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
	mount_early("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777");
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/console", O_RDWR | O_NOCTTY) < 0)
			open("/dev/null", O_RDWR);
	if (symlink("/proc/self/fd", "/dev/fd") < 0 && errno != EEXIST)
		log_error("boot: cannot make /dev/fd: %s", strerrordesc_np(errno));
}

/* "+cpu +memory …": everything the folder has to give, to its children. */
static void delegate(const char *folder)
{
	char have[256], wanted[320] = "", path[128], *name, *rest = have;
	struct error err;
	size_t used = 0;

	file_readf(have, sizeof(have), "%s/cgroup.controllers", folder);
	while ((name = strsep(&rest, " ")))
		if (*name)
			used += (size_t)snprintf(wanted + used, sizeof(wanted) - used, "%s+%s",
				used ? " " : "", name);
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", folder);
	if (used && file_write(path, wanted, &err))
		log_error("boot: %s", err.text);
}

void boot_cgroups(void)
{
	mount_early("cgroup2", CGROUP_ROOT, MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate");
	if (access(CGROUP_ROOT "/cgroup.controllers", R_OK) < 0) {
		log_error("boot: there is no cgroup2");
		return;
	}
	delegate(CGROUP_ROOT);
	if (mkdir(CGROUP_SERVICES, 0755) < 0 && errno != EEXIST)
		log_error("boot: cannot make " CGROUP_SERVICES ": %s", strerrordesc_np(errno));
	delegate(CGROUP_SERVICES);
}

void boot_hostname(void)
{
	char name[80];

	if (!file_read("/etc/hostname", name, sizeof(name)))
		return;
	if (!identity_is_hostname(name))
		log_error("boot: /etc/hostname: '%s' is no host name", name);
	else if (sethostname(name, strlen(name)) < 0)
		log_error("boot: cannot set the host name: %s", strerrordesc_np(errno));
}

bool boot_argument(const char *key, char *value, size_t size)
{
	char text[4096], *word, *rest = text;
	size_t len = strlen(key);

	file_read("/proc/cmdline", text, sizeof(text));
	while ((word = strsep(&rest, " \n"))) {
		if (strncmp(word, key, len) != 0 || (key[len - 1] != '=' && word[len]))
			continue;
		if (value)
			snprintf(value, size, "%s", word + len);
		return true;
	}
	return false;
}

static void add_text(json_t *list, char *texts)
{
	char *text;

	while ((text = strsep(&texts, ",")))
		json_array_append_new(list, rpc_text(text, strlen(text)));
}

/* bulkhead.ip=, bulkhead.gateway=, bulkhead.dns= as the object that network.json would have for eth0. */
static json_t *network_from_arguments(void)
{
	char ip[256], gateway[64], dns[256];
	json_t *object = NULL, *list = json_array();

	if (boot_argument("bulkhead.ip=", ip, sizeof(ip))) {
		add_text(list, ip);
		object = json_pack("{s:s, s:O}", "name", "eth0", "addresses", list);
		if (boot_argument("bulkhead.gateway=", gateway, sizeof(gateway)))
			json_object_set_new(object, "gateway", rpc_text(gateway, strlen(gateway)));
		if (boot_argument("bulkhead.dns=", dns, sizeof(dns))) {
			json_t *servers = json_array();

			add_text(servers, dns);
			json_object_set_new(object, "dns", servers);
		}
	}
	json_decref(list);
	return object;
}

static void configure(const json_t *object, const char *where)
{
	struct network_params params = {0};
	struct error err = {0};
	json_t *done = NULL;

	if (!json_is_object(object))
		error_set(&err, ERROR_BAD_REQUEST, "is not an object");
	else if (!schema_fill(network_schema, object, &params, "", &err) &&
		 !network_check(&params, "", &err))
		done = network_apply(&params, &err);
	if (!done)
		log_error("boot: %s: %s", where, err.text);
	json_decref(done);
	schema_release(network_schema, &params);
}

void boot_network(void)
{
	static const char file[] = "/etc/bulkhead/network.json";
	json_t *object = network_from_arguments(), *entry;
	json_error_t reason;
	struct link lo;
	struct error err;
	size_t i;

	if (netlink_find("lo", NULL, &lo, &err) || netlink_up(&lo, true, &err))
		log_error("boot: lo: %s", err.text);
	if (object) {
		configure(object, "the command line's bulkhead.ip");
	} else if (!access(file, F_OK)) {
		object = json_load_file(file, JSON_REJECT_DUPLICATES, &reason);
		if (!object)
			log_error("boot: %s: line %d: %s", file, reason.line, reason.text);
		else if (!json_is_array(object))
			configure(object, file);
		json_array_foreach(object, i, entry)
		{
			configure(entry, file);
		}
	}
	json_decref(object);
}

/* A word of a comma-separated list: "ro" is not in "errors=remount-ro". */
static bool has_option(const char *options, const char *name)
{
	size_t len = strlen(name);

	for (;; options++) {
		size_t here = strcspn(options, ",");

		if (here == len && !strncmp(options, name, len))
			return true;
		options += here;
		if (!*options)
			return false;
	}
}

static void mount_line(char *line)
{
	struct mount_params params = {0};
	struct error err = {0};
	json_t *done = NULL;
	char *fields[4];

	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		line += strspn(line, " \t");
		fields[i] = line;
		line += strcspn(line, " \t");
		if (*line)
			*line++ = '\0';
	}
	if (!*fields[0] || *fields[0] == '#' || !*fields[2] || !strcmp(fields[2], "swap") ||
		has_option(fields[3], "noauto"))
		return;
	params.disk = fields[0];
	params.path = fields[1];
	params.type = fields[2];
	params.options = fields[3];
	if (has_option(params.options, "x-systemd.makefs"))
		params.format = params.type;
	if (!strcmp(params.path, "/")) {
		/* The kernel has mounted it, read-only as a rule. */
		if (!has_option(params.options, "ro") && boot_is_machine() &&
			mount(NULL, "/", NULL, MS_REMOUNT, NULL) < 0)
			log_error("boot: cannot make / writable: %s", strerrordesc_np(errno));
		return;
	}
	done = worker_wait("mount", mount_run, &params, MOUNT_TIMEOUT_MS, &err);
	if (!done && err.kind == ERROR_NOT_FOUND && has_option(params.options, "nofail"))
		log_info("boot: /etc/fstab: %s: %s; going on without", params.path, err.text);
	else if (!done && err.kind != ERROR_ALREADY_EXISTS)
		log_error("boot: /etc/fstab: %s: %s", params.path, err.text);
	json_decref(done);
}

void boot_fstab(void)
{
	FILE *file = fopen("/etc/fstab", "re");
	char line[1024];

	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		mount_line(line);
	}
	if (file)
		fclose(file);
}
