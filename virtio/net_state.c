/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only a network device has of state: the address and MTU that the guest was told, and what its driver set by the control
 * queue. The tap may be another one; its offloads and queues are set when the pairs start. Packets under way are not state: a network may
 * lose some.
 */
#include "virtio/net_private.h"

#include <inttypes.h>
#include <linux/virtio_config.h>
#include <string.h>

struct net_state {
	uint8_t mac[6];
	uint16_t mtu; /* 0: it was not told */
	uint16_t active_pairs;
	uint64_t guest_offloads;
};
_Static_assert(sizeof(struct net_state) <= VIRTIO_OWN_STATE_MAX, "it is kept in the transport's");

static const struct state_field fields[] = {
	STATE_BYTES(struct net_state, mac),
	STATE_UINT(struct net_state, mtu),
	STATE_UINT(struct net_state, active_pairs),
	STATE_UINT(struct net_state, guest_offloads),
};
const struct state_table net_state_table = STATE_TABLE("net", 1, struct net_state, fields);

void net_state_save(struct virtio_device *dev, void *own)
{
	struct net *net = net_of(dev);
	struct net_state *s = own;

	*s = (struct net_state){.mtu = net->config.mtu};
	memcpy(s->mac, net->config.mac, sizeof(s->mac));
	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_FEATURES_OK))
		return; /* what follows has no meaning yet */
	s->active_pairs = (uint16_t)atomic_load(&net->active_pairs);
	s->guest_offloads = atomic_load(&net->guest_offloads);
}

int net_state_check(struct virtio_device *dev, const struct virtio_device_state *shared,
	const void *own, struct error *err)
{
	const struct net *net = net_of(dev);
	const struct net_state *s = own;
	bool agreed = shared->status & VIRTIO_CONFIG_S_FEATURES_OK;
	uint64_t features = shared->driver_features;
	static const uint8_t none[6];

	if (s->mac[0] & 1 || !memcmp(s->mac, none, sizeof(none)))
		return error_set(err, ERROR_CORRUPT, "its MAC address is not that of one station");
	if (agreed && !net_features_consistent(features))
		return error_set(err, ERROR_CORRUPT,
			"its features, 0x%" PRIx64 ", contradict each other", features);
	if (!agreed)
		return 0;
	if (!s->active_pairs || s->active_pairs > net->pair_count ||
		(s->active_pairs > 1 && !(features >> VIRTIO_NET_F_MQ & 1)))
		return error_set(err, ERROR_CORRUPT, "%u of its %u queue pairs are in use",
			s->active_pairs, net->pair_count);
	if (s->guest_offloads & ~(features & NET_GUEST_OFFLOADS))
		return error_set(err, ERROR_CORRUPT,
			"it has offloads, 0x%" PRIx64 ", that were not negotiated",
			s->guest_offloads);
	return 0;
}

void net_state_load(struct virtio_device *dev, const void *own)
{
	struct net *net = net_of(dev);
	const struct net_state *s = own;

	memcpy(net->config.mac, s->mac, sizeof(net->config.mac));
	if (net->config.mtu && s->mtu)
		net->config.mtu = s->mtu;
	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	atomic_store(&net->active_pairs, s->active_pairs);
	atomic_store(&net->guest_offloads, s->guest_offloads);
}
