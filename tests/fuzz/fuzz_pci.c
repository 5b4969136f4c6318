/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary accesses to PCI configuration space and to the BAR of a virtio function: the PCI host,
 * MSI-X, the virtio-pci registers and the device core's status machine. The device behind is a
 * minimal one with two queues whose loops are real; the main loop is turned now and then, so that
 * activations and resets race with further accesses as they do in a VM.
 */
#include "devices/pci.h"
#include "virtio/pci.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <string.h>

#define WINDOW 0xc0000000

static struct loop *main_loop;
static struct guest_memory memory;

static void config_read(struct virtio_device *dev, uint32_t offset, void *data, uint32_t len)
{
	(void)dev;
	memset(data, (int)offset, len);
}

static void queue_kicked(struct device_queue *dq)
{
	struct iovec segments[8];
	struct descriptor_chain chain = {.segments = segments, .capacity = 8};

	while (device_queue_pop(dq, &chain))
		virtqueue_push(&dq->ring, chain.head, 0);
	device_queue_signal(dq);
}

static void destroy(struct virtio_device *dev)
{
	free(dev);
}

static const struct virtio_ops ops = {
	.id = 2,
	.name = "fuzz",
	.config_read = config_read,
	.queue_kicked = queue_kicked,
	.queue_stop = device_queue_stopped,
	.destroy = destroy,
};

static void stop_loop(struct loop_job *job)
{
	(void)job;
	loop_stop(main_loop);
}

static void turn(void)
{
	struct loop_job job = {.run = stop_loop};
	struct error err;

	loop_post(main_loop, &job);
	if (loop_run(main_loop, &err) < 0)
		abort();
}

static void init(void)
{
	const struct guest_memory_config config = {.region_count = 1,
		.regions = {{.gpa = 0, .size = KIB(64)}},
		.pages = MEMORY_PAGES_OFF};
	struct error err;

	if (guest_memory_create(&config, &memory, &err) < 0 ||
		loop_create(&main_loop, 16, &err) < 0 ||
		log_open("fuzz", LOG_ERROR, NULL, &err) < 0)
		abort();
}

static struct virtio_pci *make_function(struct pci_host *host)
{
	struct virtio_device *dev = calloc(1, sizeof(*dev));
	struct virtio_pci *vp;
	struct error err;

	dev->ops = &ops;
	dev->config_size = 24;
	if (virtio_device_init(dev, "fuzz", &memory, main_loop, 2, 1, 64, &err) < 0 ||
		virtio_pci_create(dev, &vp, &err) < 0 ||
		pci_host_plug(host, virtio_pci_function(vp), 1, &err) < 0)
		abort();
	return vp;
}

/* An access is 1 byte of kind, 2 of offset, 4 of value; kinds choose space, direction, size. */
static void access_once(struct pci_host *host, const uint8_t *op)
{
	unsigned kind = op[0], size = 1u << (kind >> 2 & 3);
	uint64_t offset = op[1] | (uint64_t)op[2] << 8, value = 0;

	memcpy(&value, op + 3, 4);
	switch (kind & 3) {
	case 0:
		pci_ecam_ops.read(host, (1u << 15) + offset % 4096, size);
		break;
	case 1:
		pci_ecam_ops.write(host, (1u << 15) + offset % 4096, size, value);
		break;
	case 2:
		pci_window_ops.read(host, offset, size);
		break;
	case 3:
		pci_window_ops.write(host, offset, size, value | value << 32);
		break;
	}
	if (kind & 0x80)
		turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pci_host host;
	struct virtio_pci *vp;

	if (!main_loop)
		init();
	pci_host_init(&host, WINDOW, MIB(512));
	vp = make_function(&host);
	/* As the firmware or the guest's first steps leave it: the BAR at the window's start, decoding. */
	pci_ecam_ops.write(&host, (1u << 15) + 0x10, 4, WINDOW);
	pci_ecam_ops.write(&host, (1u << 15) + 0x04, 2, 6);
	for (; size >= 7; data += 7, size -= 7)
		access_once(&host, data);
	pci_host_unplug(&host, virtio_pci_function(vp));
	virtio_pci_destroy(vp);
	pci_host_destroy(&host);
	return 0;
}
