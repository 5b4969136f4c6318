/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all attacks share: a disk that is attacked, a bystander that must not notice, and the promise
 * that a reset mends everything. Disk 0 is the victim, disk 1 the bystander.
 */
#pragma once

#include "guest/payloads/lib/blk.h"

struct attack {
	struct blk victim, bystander;
	uint32_t victim_bar; /* as the machine assigned it */
	uint64_t seed, generation;
};

extern struct attack attack;

/* Open both disks; the victim with a queue of `size` and these features. */
void attack_open(uint16_t size, uint64_t features);

/* The bystander writes and reads back. */
void attack_check_bystander(const char *what);

/* Reset the victim; it must then write and read back as if nothing had happened. So must the bystander. */
void attack_recover(const char *what);

/* The victim says that it needs a reset; and then as above. */
void attack_expect_broken(const char *what);

/* Undo what was done to a function's configuration space: memory decoding on, BAR 0 there, MSI-X off. */
void attack_restore(struct virtio *dev, uint32_t bar);

uint64_t attack_random(void);
static inline uint64_t attack_below(uint64_t limit)
{
	return attack_random() % limit;
}

/* attack_queue.c */
void attack_available_index(void);
void attack_chains(void);
void attack_requests(void);
void attack_in_flight(void);
void attack_race(void);

/* attack_registers.c */
void attack_bar_garbage(void);
void attack_config_garbage(void);
void attack_status_garbage(void);
void attack_bar_moves(void);
void attack_msix_garbage(void);

/* attack_platform.c */
void attack_ports(void);
void attack_hotplug(void); /* without end */
void attack_mmio(void);

/* attack_streams.c */
void attack_vsock(void);
void attack_net(void);
void attack_net_rings(void);
