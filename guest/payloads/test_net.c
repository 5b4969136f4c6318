/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1) with a minimal driver: a host that answers ARP and ICMP echo requests
 * and echoes UDP datagrams, at 10.99.0.2, until one that says "END" comes.
 */
#include "guest/payloads/lib/boot.h"
#include "guest/payloads/lib/clock.h"
#include "guest/payloads/lib/memory.h"
#include "guest/payloads/lib/report.h"
#include "guest/payloads/lib/string.h"
#include "guest/payloads/lib/virtio.h"
#include "guest/payloads/tests.h"

#include <linux/virtio_net.h>

#define QUEUE_SIZE    64
#define FRAME_MAX     1514
#define WAIT_MS	      30000
#define ETHERTYPE_IP  0x0800
#define ETHERTYPE_ARP 0x0806
#define PROTO_ICMP    1
#define PROTO_UDP     17

struct frame {
	struct virtio_net_hdr_v1 header;
	uint8_t data[FRAME_MAX];
};

static struct virtio dev;
static struct virtq rx, tx;
static uint8_t mac[6];
static const uint8_t address[4] = {10, 99, 0, 2};

static unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void offer(struct frame *frame)
{
	const struct segment segment = {frame, sizeof(*frame)};

	check(virtq_add(&rx, &segment, 0, 1, (uint64_t)frame), "the receive queue is full");
	virtq_kick(&rx);
}

static void open_device(void)
{
	virtio_open(&dev, VIRTIO_ID_NET, 0);
	virtq_alloc(&rx, QUEUE_SIZE);
	virtq_alloc(&tx, QUEUE_SIZE);
	virtio_negotiate(&dev, FEATURE(VIRTIO_NET_F_MAC) | FEATURE(VIRTIO_RING_F_EVENT_IDX) |
				       boot_number("mergeable", 0) << VIRTIO_NET_F_MRG_RXBUF);
	check(dev.features & FEATURE(VIRTIO_NET_F_MAC), "no MAC address");
	for (unsigned i = 0; i < sizeof(mac); i++)
		mac[i] = (uint8_t)virtio_config(&dev, i, 1);
	virtq_attach(&rx, &dev, 0);
	virtq_attach(&tx, &dev, 1);
	virtio_driver_ok(&dev);
	for (unsigned i = 0; i < QUEUE_SIZE; i++)
		offer(memory_alloc(sizeof(struct frame), 16));
}

static void swap(uint8_t *a, uint8_t *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t t = a[i];

		a[i] = b[i];
		b[i] = t;
	}
}

static void reply(struct frame *frame, uint32_t len)
{
	const struct segment segment = {frame, (uint32_t)sizeof(frame->header) + len};

	memcpy(frame->data, frame->data + 6, 6);
	memcpy(frame->data + 6, mac, 6);
	memset(&frame->header, 0, sizeof(frame->header));
	check(virtq_add(&tx, &segment, 1, 0, 0), "the transmit queue is full");
	virtq_kick(&tx);
	virtq_wait(&tx, NULL);
}

/* RFC 826: "who has 10.99.0.2?" */
static void answer_arp(struct frame *frame, uint32_t len)
{
	uint8_t *arp = frame->data + 14;

	if (len < 42 || get16(arp + 6) != 1 || memcmp(arp + 24, address, 4) != 0)
		return;
	put16(arp + 6, 2);
	memcpy(arp + 18, arp + 8, 10); /* the asker becomes the target */
	memcpy(arp + 8, mac, 6);
	memcpy(arp + 14, address, 4);
	reply(frame, len);
}

/* The sums stay right: swapped words add up to the same, and the type's change is added. */
static bool answer_ip(struct frame *frame, uint32_t len)
{
	uint8_t *ip = frame->data + 14, *payload = ip + 20;
	unsigned total = get16(ip + 2), sum;
	bool end = false;

	if (len < 42 || ip[0] != 0x45 || memcmp(ip + 16, address, 4) != 0 || total + 14 > len)
		return false;
	if (ip[9] == PROTO_ICMP && payload[0] == 8) {
		payload[0] = 0;
		sum = get16(payload + 2) + 0x0800;
		put16(payload + 2, (sum & 0xffff) + (sum >> 16));
	} else if (ip[9] == PROTO_UDP) {
		end = total == 31 && !memcmp(payload + 8, "END", 3);
		swap(payload, payload + 2, 2);
	} else {
		return false;
	}
	swap(ip + 12, ip + 16, 4);
	reply(frame, total + 14);
	return end;
}

void test_net_echo(void)
{
	bool end = false;
	uint64_t token;
	uint32_t len;

	open_device();
	print("READY %02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		mac[5]);
	while (!end) {
		struct frame *frame;

		check(wait_until(virtq_take(&rx, &token, &len), WAIT_MS), "no frame from the host");
		frame = (struct frame *)token;
		check(len > sizeof(frame->header) && frame->header.num_buffers == 1,
			"%u bytes, %u buffers", len, frame->header.num_buffers);
		len -= (uint32_t)sizeof(frame->header);
		if (get16(frame->data + 12) == ETHERTYPE_ARP)
			answer_arp(frame, len);
		else if (get16(frame->data + 12) == ETHERTYPE_IP)
			end = answer_ip(frame, len);
		offer(frame);
	}
}
