/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net on socket pairs that stand in for a tap, for its unit tests: the guest's end and the
 * host's. Packets carry a pattern made from a seed. A failure of the helpers fails the test that runs.
 */
#pragma once

#include "tests/unit/driver.h"
#include "virtio/net_private.h"

#include <linux/virtio_config.h>

#define BIT(f)	   (1ull << (f))
#define RAM	   MIB(16)
#define RX	   0
#define TX	   1
#define BUFFER	   1536u
#define WAIT_MS	   40000u
#define NO_MRG	   (DRIVER_ALL_FEATURES & ~BIT(VIRTIO_NET_F_MRG_RXBUF))
#define NO_OFFLOAD (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_NET_F_MRG_RXBUF))

extern struct driver wire_guest;
extern int wire_host[NET_QUEUE_PAIRS_MAX]; /* the tap's other end, one a pair */
extern const uint8_t wire_mac[6];
extern const struct virtio_net_hdr_v1 wire_plain;
extern uint64_t wire_rx_gpa[DRIVER_QUEUES_MAX][NET_QUEUE_SIZE]; /* by head, of the only segment */

/* A device, not driven yet / driven. */
void wire_create(struct net_config config);
/* Another device on the same guest, with sockets of its own. */
void wire_create_again(struct net_config config);
void wire_start(struct net_config config, uint64_t features, uint16_t queue_size);
void wire_end(void);
/* After a reset the guest's RAM is its driver's to lay out anew. */
void wire_restart(uint64_t features);

struct net_counters wire_counters(void);
void wire_pattern(uint8_t *data, size_t len, unsigned seed);

/* A packet of `len` bytes with its header, towards the guest. */
void wire_host_send(unsigned pair, struct virtio_net_hdr_v1 header, size_t len, unsigned seed);
/* The next packet from the guest: its length without header, or -1. */
ssize_t wire_host_receive(unsigned pair, struct virtio_net_hdr_v1 *header, uint8_t *data, int ms);

void wire_post_rx(unsigned queue, unsigned count, uint32_t len);
struct driver_segment wire_packet(struct virtio_net_hdr_v1 header, size_t len, unsigned seed);
void wire_guest_send(unsigned queue, struct virtio_net_hdr_v1 header, size_t len, unsigned seed);
/* Take a whole packet of the guest's: its length without header, its header; checks the pattern. -1: none. */
ssize_t wire_guest_receive(
	unsigned queue, struct virtio_net_hdr_v1 *header, unsigned seed, unsigned ms);

/* A command of the control queue, which is the last: its answer. */
uint8_t wire_command(uint8_t class, uint8_t cmd, const void *data, uint32_t len);
uint8_t wire_set_pairs(uint16_t pairs);
uint8_t wire_set_offloads(uint64_t offloads);
