/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest agent under whatever a host program may send: all of its methods with their real tables and checks, over a real
 * connection (a socket pair would be slower; the peer is driven directly). Only the border to the kernel is replaced: no
 * process is ever forked, so nothing is run, mounted or frozen, and each method ends in its own handling of that failure.
 *
 * The first byte chooses: 'R' requests; 'H' an answer of Docker's; 'M' a mountinfo; 'D' a disk's first bytes.
 */
#include "guest/agent/disks.h"
#include "guest/agent/docker.h"
#include "guest/agent/events.h"
#include "guest/agent/methods.h"
#include "guest/agent/mountinfo.h"
#include "guest/agent/netlink.h"
#include "guest/agent/process.h"
#include "guest/agent/server.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool kept)
{
	if (!kept)
		abort();
}

/* The border: as a guest without memory for another process has it. */
pid_t process_fork(void)
{
	errno = EAGAIN;
	return -1;
}

static unsigned answers;

static void check_line(struct rpc_peer *peer, const char *bytes, size_t size)
{
	json_t *line = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
	const json_t *error = json_object_get(line, "error");

	(void)peer;
	must(line && bytes[size - 1] == '\n' && !memchr(bytes, '\n', size - 1));
	must(!error || (json_is_integer(json_object_get(error, "code")) &&
			       json_object_get(json_object_get(error, "data"), "kind")));
	json_decref(line);
	answers++;
}

static void try_requests(const char *text, size_t size)
{
	static bool open;
	struct conn conn = {.event.fd = -1};
	struct error err;
	sigset_t none;

	sigemptyset(&none);
	if (!open)
		must(!events_open(&none, NULL, &err));
	open = true;
	conn.peer = (struct rpc_peer){.methods = agent_methods(),
		.calls_max = CONN_CALLS,
		.write = check_line,
		.user = &conn};
	rpc_peer_open(&conn.peer);
	rpc_peer_receive(&conn.peer, text, size);
	/* Without a process nothing stays open, and nobody has joined the connection. */
	must(!conn.peer.call_count && !conn.users);
	rpc_peer_close(&conn.peer);
}

static void try_http(const char *text, size_t size)
{
	struct error err = {0};
	int status = 0;
	char *body = docker_http_body(text, size, &status, &err);

	must(body ? strlen(body) <= size : err.code != 0);
	free(body);
}

static void try_mounts(const char *text)
{
	size_t count;
	struct mount_entry *entries = mountinfo_parse(text, &count);

	must(entries && count <= MOUNTS_MAX);
	for (size_t i = 0; i < count; i++)
		must(memchr(entries[i].path, 0, sizeof(entries[i].path)) &&
			memchr(entries[i].source, 0, sizeof(entries[i].source)) &&
			memchr(entries[i].type, 0, sizeof(entries[i].type)) &&
			mount_depth(entries[i].path) < sizeof(entries[i].path));
	free(entries);
}

/* The superblocks lie far apart: the input is laid where they are, piece by piece. */
static void try_disk(const uint8_t *data, size_t size)
{
	static const unsigned places[] = {0, 1024, 4096 - 16, 0x10000};
	uint8_t *disk = calloc(1, DISK_PROBE_SIZE);
	struct disk_probe probe;

	must(disk);
	for (unsigned i = 0; i < ARRAY_SIZE(places) && size; i++) {
		size_t piece = min_u64(size, 512);

		memcpy(disk + places[i], data, piece);
		data += piece;
		size -= piece;
	}
	disk_probe_bytes(disk, &probe);
	must(memchr(probe.type, 0, sizeof(probe.type)) &&
		memchr(probe.label, 0, sizeof(probe.label)) &&
		memchr(probe.uuid, 0, sizeof(probe.uuid)));
	free(disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = size ? malloc(size) : NULL;
	struct error err;
	struct cidr cidr;

	if (!text)
		return 0;
	log_open("fuzz", LOG_ERROR, NULL, &err);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] == 'R')
		try_requests(text, size - 1);
	else if (data[0] == 'H')
		try_http(text, size - 1);
	else if (data[0] == 'M')
		try_mounts(text);
	else if (data[0] == 'D')
		try_disk(data + 1, size - 1);
	else
		must(!cidr_parse(text, &cidr) || cidr.prefix <= 128);
	return 0;
}
