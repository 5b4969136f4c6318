/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/self/mountinfo. A line:
 *	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 * id, parent, device, root within it, where, options, tags up to a dash, type, source, its options. Blanks and
 * backslashes are written as octal escapes.
 */
#include "guest/agent/mountinfo.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void unescape(char *to, size_t size, const char *from)
{
	size_t used = 0;

	while (*from && used + 1 < size) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
			from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
			to[used++] = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 |
					    (from[3] - '0'));
			from += 4;
		} else {
			to[used++] = *from++;
		}
	}
	to[used] = '\0';
}

static bool has_option(const char *options, const char *name)
{
	size_t len = strlen(name);

	while (*options) {
		size_t this = strcspn(options, ",");

		if (this == len && !strncmp(options, name, len))
			return true;
		options += this + (options[this] == ',');
	}
	return false;
}

static bool parse_line(char *line, struct mount_entry *entry)
{
	char *fields[6], *tail = strstr(line, " - "), *type, *source, *super;

	if (!tail)
		return false;
	*tail = '\0';
	tail += 3;
	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		fields[i] = strsep(&line, " ");
		if (!fields[i])
			return false;
	}
	type = strsep(&tail, " ");
	source = strsep(&tail, " ");
	super = tail ? tail : (char *)(uintptr_t) "";
	if (!source || sscanf(fields[2], "%u:%u", &entry->major, &entry->minor) != 2)
		return false;
	unescape(entry->path, sizeof(entry->path), fields[4]);
	unescape(entry->source, sizeof(entry->source), source);
	unescape(entry->type, sizeof(entry->type), type);
	entry->whole = !strcmp(fields[3], "/");
	entry->readonly = has_option(fields[5], "ro") || has_option(super, "ro");
	return true;
}

struct mount_entry *mountinfo_parse(const char *text, size_t *count)
{
	struct mount_entry *entries = calloc(MOUNTS_MAX, sizeof(*entries));
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy, *line;

	*count = 0;
	while (entries && copy && (line = strsep(&rest, "\n")) && *count < MOUNTS_MAX)
		if (parse_line(line, &entries[*count]))
			(*count)++;
	return entries;
}

struct mount_entry *mountinfo_read(size_t *count, struct error *err)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *text = NULL;
	struct mount_entry *entries;
	size_t room = 0;
	ssize_t len;

	*count = 0;
	if (!file) {
		error_errno(err, errno, "cannot read /proc/self/mountinfo");
		return NULL;
	}
	len = getdelim(&text, &room, '\0', file);
	fclose(file);
	entries = mountinfo_parse(len > 0 ? text : "", count);
	if (!entries)
		error_errno(err, ENOMEM, "cannot read /proc/self/mountinfo");
	return entries;
}

bool mount_is_on_disk(const struct mount_entry *entry)
{
	/* btrfs has a device number of major 0, and its source says what it is on. */
	return entry->major != 0 || !strncmp(entry->source, "/dev/", 5);
}

unsigned mount_depth(const char *path)
{
	unsigned depth = 0;

	for (; *path; path++)
		depth += path[0] == '/' && path[1] != '\0';
	return depth;
}
