/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile states for a disk, a network device and a vsock behind their PCI functions. The input is what guest memory holds, and either a
 * file's sections or changes to a state that such a device really had; the checksum is always right.
 *
 * What must hold, besides what the sanitizers watch: a state that is refused has changed nothing; one that is taken is
 * saved as the same state that it was read as (loaded once more, it gives the same bytes); and the device then goes on
 * with the rings that the state says, whatever is in them, can be reset, and stands still when asked to.
 */
#include "tests/fuzz/input.h"
#include "tests/unit/driver.h"
#include "virtio/blk.h"
#include "virtio/net_private.h"
#include "virtio/vsock.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <xxhash.h>

#define DRIVER_RAM KIB(256)
#define HEADER	   16 /* of the file */
#define SUM	   8  /* at its end */
#define CHANGES	   16
#define FILE_MAX   KIB(16)

struct target {
	struct driver d;
	struct state_writer real;  /* a state that it had */
	struct state_writer reset; /* as it is now, driven by nobody */
	bool made;
};

static void create_disk(struct driver *d)
{
	struct blk_config config = {.id = "fuzz", .queues = 2, .discard = true};
	int fd = memfd_create("disk", MFD_CLOEXEC);
	char path[32];
	struct error err;

	if (fd < 0 || ftruncate(fd, KIB(256)) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	config.path = path;
	if (blk_create(&config, &d->memory, d->main_loop, &d->device, &err) < 0)
		abort();
}

static void create_net(struct driver *d)
{
	const struct net_config config = {
		.id = "fuzz", .fd = -1, .queues = 2, .mtu = 9000, .mac = {2, 0, 0, 0, 0, 1}};
	int fds[2], pair[2];
	struct error err;

	for (unsigned i = 0; i < 2; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
			abort();
		fds[i] = pair[0]; /* the other end stays open, and nobody reads it */
	}
	if (net_create_on(&config, fds, false, &d->memory, d->main_loop, &d->device, &err) < 0)
		abort();
}

static void create_vsock(struct driver *d)
{
	char path[64];
	struct vsock_config config = {.cid = 42, .socket = path};
	struct error err;

	snprintf(path, sizeof(path), "/tmp/fuzz_devstate.%d", getpid());
	if (vsock_create(&config, &d->memory, d->main_loop, &d->device, &err) < 0)
		abort();
	unlink(path);
}

static void save_quiet(struct target *t, struct state_writer *out)
{
	driver_quiesce(&t->d);
	driver_save(&t->d, out);
}

/* Nobody drives it, and its function is as at power-on. */
static void start_over(struct target *t)
{
	virtio_device_reset_now(t->d.device);
	virtio_device_unquiesce(t->d.device);
	pci_function_reset(virtio_pci_function(t->d.pci));
	state_release(&t->reset);
	save_quiet(t, &t->reset);
	virtio_device_unquiesce(t->d.device);
}

static void make(struct target *t, unsigned which)
{
	static void (*const create[])(struct driver * d) = {create_disk, create_net, create_vsock};

	driver_create(&t->d, DRIVER_RAM);
	create[which](&t->d);
	driver_plug(&t->d);
	if (!driver_start(&t->d, DRIVER_ALL_FEATURES, 16))
		abort();
	save_quiet(t, &t->real);
	virtio_device_unquiesce(t->d.device);
	start_over(t);
	t->made = true;
}

static void fill_memory(struct input *in, struct driver *d)
{
	uint8_t *ram = d->memory.regions[0].host;
	unsigned pokes = (unsigned)take(in, 1) % 16;

	memset(ram, 0, DRIVER_RAM);
	for (unsigned i = 0; i < pokes; i++) {
		uint64_t at = 4096 + take(in, 2) % (DRIVER_RAM - 4096 - 8), value = take(in, 4);

		memcpy(ram + at, &value, 4);
	}
}

/* The size of a file with the right checksum. */
static size_t make_file(struct input *in, const struct target *t, uint8_t *file)
{
	size_t size = t->real.size;
	uint64_t sum;

	memcpy(file, t->real.bytes, size);
	if (take(in, 1) % 8 == 0) {
		size_t body =
			in->left < FILE_MAX - HEADER - SUM ? in->left : FILE_MAX - HEADER - SUM;

		memcpy(file + HEADER, in->data, body);
		in->left = 0;
		size = HEADER + body + SUM;
	} else {
		unsigned changes = (unsigned)take(in, 1) % CHANGES;

		for (unsigned i = 0; i < changes; i++)
			file[HEADER + take(in, 2) % (size - HEADER - SUM)] ^= (uint8_t)take(in, 1);
	}
	sum = XXH3_64bits(file, size - SUM);
	memcpy(file + size - SUM, &sum, SUM);
	return size;
}

static void expect_same(const struct state_writer *a, const struct state_writer *b)
{
	if (a->size != b->size || memcmp(a->bytes, b->bytes, a->size) != 0)
		abort();
}

static void go_on(struct input *in, struct target *t)
{
	struct driver *d = &t->d;

	driver_unquiesce(d);
	for (unsigned i = 0; i < d->device->queue_count; i++)
		virtio_device_kick(d->device, i);
	usleep((unsigned)take(in, 1));
	if (take(in, 1) % 2)
		driver_quiesce(d);
}

static void take_state(struct input *in, struct target *t)
{
	struct state_writer once = {0}, twice = {0};
	struct error err;

	driver_save(&t->d, &once);
	start_over(t);
	if (driver_load(&t->d, once.bytes, once.size, &err) < 0)
		abort();
	driver_save(&t->d, &twice);
	expect_same(&once, &twice);
	state_release(&once);
	state_release(&twice);
	go_on(in, t);
	start_over(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct target targets[3];
	static uint8_t file[FILE_MAX];
	struct input in = {data, size};
	unsigned which = (unsigned)take(&in, 1) % ARRAY_SIZE(targets);
	struct target *t = &targets[which];
	struct state_writer now = {0};
	struct state_reader reader;
	struct error err;
	size_t length;
	int ret;

	log_open("fuzz", LOG_ERROR, NULL, NULL);
	if (!t->made)
		make(t, which);
	fill_memory(&in, &t->d);
	length = make_file(&in, t, file);
	if (state_open(&reader, file, length, &err) < 0)
		return 0;
	ret = virtio_pci_load(t->d.pci, &reader, &err);
	state_close(&reader);
	if (ret == 0) {
		take_state(&in, t);
		return 0;
	}
	save_quiet(t, &now);
	virtio_device_unquiesce(t->d.device);
	expect_same(&t->reset, &now);
	state_release(&now);
	return 0;
}
