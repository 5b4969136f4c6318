/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reseal_snapshot DIR: the checksums of a snapshot whose manifest.json or `state` somebody has changed, made right again: of the state, of the
 * parts that have one over the whole file, and of the manifest. So tests can meet what is behind the checksums.
 */
#include "vmm/base/util.h"
#include "vmm/state/state.h"
#include "vmm/transfer/manifest.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define FILE_MAX MIB(64)

static int dir;

static void must(bool done, const char *what)
{
	if (done)
		return;
	fprintf(stderr, "reseal_snapshot: %s\n", what);
	exit(1);
}

static uint8_t *load(const char *name, size_t *size)
{
	uint8_t *bytes;
	struct error err;

	must(file_load(dir, name, FILE_MAX, &bytes, size, &err) == 0, name);
	return bytes;
}

static void store(const char *name, const void *bytes, size_t size)
{
	_cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_TRUNC | O_CLOEXEC);
	struct error err;

	must(fd >= 0 && file_write(fd, bytes, size, 0, name, &err) == 0, name);
}

/* Its last eight bytes are the checksum of all before. */
static void seal_state(void)
{
	size_t size;
	_cleanup_free_ uint8_t *bytes = load(SNAPSHOT_STATE_FILE, &size);
	uint64_t sum;

	must(size > sizeof(sum), "the state is too short");
	sum = htole64(XXH3_64bits(bytes, size - sizeof(sum)));
	memcpy(bytes + size - sizeof(sum), &sum, sizeof(sum));
	store(SNAPSHOT_STATE_FILE, bytes, size);
}

static void set_sum(json_t *object, const void *bytes, size_t size)
{
	char text[CHECKSUM_TEXT_SIZE];

	checksum_format(checksum_of(bytes, size), text);
	json_object_set_new(object, "checksum", json_string(text));
}

static void seal_part(json_t *part)
{
	const char *name = json_string_value(json_object_get(part, "name"));
	const char *check = json_string_value(json_object_get(part, "check"));
	size_t size;

	must(name && check, "a part without a name");
	if (strcmp(check, "whole") != 0)
		return;
	{
		_cleanup_free_ uint8_t *bytes = load(name, &size);

		set_sum(part, bytes, size);
		json_object_set_new(part, "size", json_integer((json_int_t)size));
	}
}

static void seal_manifest(void)
{
	size_t size, i;
	_cleanup_free_ uint8_t *bytes = load(SNAPSHOT_MANIFEST_FILE, &size);
	_cleanup_free_ char *plain = NULL, *text = NULL;
	json_t *object = json_loadb((char *)bytes, size, 0, NULL), *part;

	must(object != NULL, "the manifest is not JSON");
	json_array_foreach(json_object_get(object, "parts"), i, part)
	{
		seal_part(part);
	}
	json_object_del(object, "checksum");
	plain = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
	must(plain != NULL, "no memory");
	set_sum(object, plain, strlen(plain));
	text = json_dumps(object, JSON_INDENT(1));
	must(text != NULL, "no memory");
	store(SNAPSHOT_MANIFEST_FILE, text, strlen(text));
	json_decref(object);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "Usage: reseal_snapshot DIR\n");
		return 2;
	}
	dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(dir >= 0, argv[1]);
	seal_state();
	seal_manifest();
	close(dir);
	return 0;
}
