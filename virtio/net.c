/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1): the device, its features and configuration, and its queues.
 * The life of a queue pair is in net_pair.c; packets move in net_rx.c and net_tx.c, or in the kernel (vhost_net.c).
 *
 * Queues 2i and 2i+1 are pair i, which has a thread and a descriptor of the tap to itself; the
 * control queue follows the last pair. A driver without VIRTIO_NET_F_MQ sees one pair, and the
 * control queue is its third queue whatever we offered (§5.1.2).
 */
#include "virtio/net_private.h"

#include "virtio/tap.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <string.h>

#define MTU_MIN	    68	 /* §5.1.4.1 */
#define MTU_DEFAULT 1500 /* what a driver assumes without being told */

#define BIT(feature) (1ull << (feature))

/* ---- limits and counters ---- */

#define LIMIT_RECHECK_NS 100000000u

static uint64_t repay(struct token_bucket *bucket, uint64_t *units, uint64_t *now)
{
	uint64_t wait;

	if (!*units)
		return 0;
	if (!atomic_load_explicit(&bucket->rate, memory_order_relaxed)) {
		*units = 0;
		return 0;
	}
	if (!*now)
		*now = now_ns();
	wait = token_bucket_take(bucket, *units, *now);
	if (!wait)
		*units = 0;
	/* Ask again early enough that a limit which was changed or lifted meanwhile counts soon. */
	return wait ? min_u64(wait, *now + LIMIT_RECHECK_NS) : 0;
}

uint64_t net_limit_wait(struct net_limit *limit, struct net_debt *debt)
{
	uint64_t now = 0;
	uint64_t wait = repay(&limit->packets, &debt->packets, &now);

	return wait ? wait : repay(&limit->bytes, &debt->bytes, &now);
}

void net_set_limits(struct virtio_device *dev, uint64_t pps, uint64_t bps)
{
	struct net *net = net_of(dev);

	token_bucket_set(&net->rx_limit.packets, pps);
	token_bucket_set(&net->rx_limit.bytes, bps);
	token_bucket_set(&net->tx_limit.packets, pps);
	token_bucket_set(&net->tx_limit.bytes, bps);
}

void net_get_counters(const struct virtio_device *dev, struct net_counters *counters)
{
	const struct net *net = container_of(dev, const struct net, device);

	*counters = (struct net_counters){0};
	for (unsigned i = 0; i < net->pair_count; i++) {
		const struct net_count *rx = &net->pairs[i]->rx.count,
				       *tx = &net->pairs[i]->tx.count;

		counters->rx_packets += net_count_get(&rx->packets);
		counters->rx_bytes += net_count_get(&rx->bytes);
		counters->rx_dropped += net_count_get(&rx->dropped);
		counters->tx_packets += net_count_get(&tx->packets);
		counters->tx_bytes += net_count_get(&tx->bytes);
		counters->tx_dropped += net_count_get(&tx->dropped);
	}
}

/* ---- features and configuration ---- */

/* §5.1.3.1: each of these is void without one of those. */
bool net_features_consistent(uint64_t features)
{
	static const struct {
		uint64_t feature, needs_one_of;
	} rules[] = {
		{BIT(VIRTIO_NET_F_GUEST_TSO4), BIT(VIRTIO_NET_F_GUEST_CSUM)},
		{BIT(VIRTIO_NET_F_GUEST_TSO6), BIT(VIRTIO_NET_F_GUEST_CSUM)},
		{BIT(VIRTIO_NET_F_GUEST_ECN),
			BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6)},
		{BIT(VIRTIO_NET_F_HOST_TSO4), BIT(VIRTIO_NET_F_CSUM)},
		{BIT(VIRTIO_NET_F_HOST_TSO6), BIT(VIRTIO_NET_F_CSUM)},
		{BIT(VIRTIO_NET_F_HOST_ECN),
			BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6)},
		{BIT(VIRTIO_NET_F_MQ), BIT(VIRTIO_NET_F_CTRL_VQ)},
		{BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS), BIT(VIRTIO_NET_F_CTRL_VQ)},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
		if (features & rules[i].feature && !(features & rules[i].needs_one_of))
			return false;
	return true;
}

static bool features_ok(struct virtio_device *dev, uint64_t features)
{
	struct net *net = net_of(dev);

	if (!net_features_consistent(features))
		return false;
	/* No queue runs now: the one moment to go back to what a fresh driver starts with. */
	atomic_store(&net->active_pairs, 1);
	atomic_store(&net->guest_offloads, features & NET_GUEST_OFFLOADS);
	return true;
}

static void config_read(struct virtio_device *dev, uint32_t offset, void *data, uint32_t len)
{
	memcpy(data, (uint8_t *)&net_of(dev)->config + offset, len);
}

static uint64_t offered(const struct net_config *config, uint16_t mtu)
{
	uint64_t features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) |
			    BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
			    BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) |
			    NET_GUEST_OFFLOADS | BIT(VIRTIO_NET_F_MRG_RXBUF) |
			    BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);

	if (config->queues > 1)
		features |= BIT(VIRTIO_NET_F_MQ);
	if (mtu)
		features |= BIT(VIRTIO_NET_F_MTU);
	return features;
}

/*
 * The MTU to tell the guest. Without one from the user, that of the tap: a jumbo or a tunnel's
 * interface then works without being configured twice. The usual 1500 is not offered, since offering
 * would forbid the guest to go above it. A descriptor's interface may live in another network
 * namespace, where its name means nothing to us.
 */
static uint16_t guest_mtu(const struct net_config *config)
{
	uint16_t mtu = config->mtu;

	if (!mtu && config->fd < 0 && config->tap) {
		mtu = tap_mtu(config->tap);
		if (mtu < MTU_MIN || mtu == MTU_DEFAULT)
			mtu = 0;
	}
	return mtu;
}

void net_derive_mac(const char *vm_name, const char *id, uint8_t mac[6])
{
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a over name, '/', id */
	const char *parts[] = {vm_name, "/", id};

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		for (const char *c = parts[i]; *c; c++)
			hash = (hash ^ (uint8_t)*c) * 0x100000001b3;
	hash ^= hash >> 40; /* all of it counts in the 40 bits kept */
	mac[0] = 0x02;	    /* locally administered, unicast */
	for (unsigned i = 1; i < 6; i++)
		mac[i] = (uint8_t)(hash >> 8 * (i - 1));
}

/* ---- queues ---- */

static unsigned pairs_in_play(const struct net *net)
{
	return virtio_has_feature(&net->device, VIRTIO_NET_F_MQ) ? net->pair_count : 1;
}

static bool is_ctrl(const struct device_queue *dq)
{
	const struct net *net = net_of(dq->device);

	return virtio_has_feature(dq->device, VIRTIO_NET_F_CTRL_VQ) &&
	       dq->index == 2 * pairs_in_play(net);
}

/* NULL: the control queue, or a queue that this driver has no right to use. */
static struct net_pair *pair_of(const struct device_queue *dq)
{
	const struct net *net = net_of(dq->device);

	return dq->index < 2 * pairs_in_play(net) ? net->pairs[dq->index / 2] : NULL;
}

static bool is_tx(const struct device_queue *dq)
{
	return dq->index & 1;
}

static void queue_start(struct device_queue *dq)
{
	struct net_pair *pair = pair_of(dq);

	if (!pair)
		return;
	dq->external = pair->net->vhost;
	if (!is_tx(dq) || pair->net->vhost)
		net_pair_sync(pair);
}

static void queue_kicked(struct device_queue *dq)
{
	struct net_pair *pair = pair_of(dq);

	if (is_ctrl(dq))
		net_ctrl_run(dq);
	else if (pair && is_tx(dq))
		net_tx_run(pair);
	else if (pair)
		net_rx_run(pair);
}

static void queue_stop(struct device_queue *dq)
{
	struct net_pair *pair = pair_of(dq);

	if (pair && !is_tx(dq)) {
		pair->rx.stop_asked = true;
		net_pair_sync(pair);
		return;
	}
	if (pair && pair->net->vhost)
		net_pair_sync(pair);
	else if (pair)
		net_tx_stop(pair);
	device_queue_stopped(dq);
}

static void queue_pause(struct device_queue *dq)
{
	struct net_pair *pair = pair_of(dq);

	if (pair && !is_tx(dq)) {
		net_rx_pause(pair);
		pair->rx.pause_asked = true;
		net_pair_sync(pair);
		return;
	}
	if (pair && pair->net->vhost)
		net_pair_sync(pair); /* it has no ring of this pair any more when this returns */
	else if (pair)
		net_tx_stop(pair);
	device_queue_paused(dq);
}

static void queue_resume(struct device_queue *dq)
{
	struct net_pair *pair = pair_of(dq);

	if (pair && pair->net->vhost)
		net_pair_sync(pair);
}

/* ---- creating and destroying ---- */

static void free_net(struct net *net, bool close_fds)
{
	for (unsigned i = 0; i < net->pair_count; i++) {
		struct net_pair *pair = net->pairs[i];

		if (!pair)
			continue;
		vhost_net_close(&pair->vhost);
		if (close_fds)
			close(pair->fd);
		free(pair);
	}
	free(net);
}

static void destroy(struct virtio_device *dev)
{
	free_net(net_of(dev), true);
}

static const struct virtio_ops net_ops = {
	.id = 1,
	.name = "virtio-net",
	.config_read = config_read,
	.features_ok = features_ok,
	.queue_start = queue_start,
	.queue_kicked = queue_kicked,
	.queue_stop = queue_stop,
	.queue_pause = queue_pause,
	.queue_resume = queue_resume,
	.state = &net_state_table,
	.state_save = net_state_save,
	.state_check = net_state_check,
	.state_load = net_state_load,
	.destroy = destroy,
};

static int check(const struct net_config *config, struct error *err)
{
	static const uint8_t none[6];

	if (!config->queues || config->queues > NET_QUEUE_PAIRS_MAX)
		return error_set(err, ERROR_BAD_REQUEST, "queues=%u is not between 1 and %u",
			config->queues, NET_QUEUE_PAIRS_MAX);
	if (config->fd >= 0 && config->queues > 1)
		return error_set(err, ERROR_BAD_REQUEST,
			"fd=%d is one queue, but queues=%u is asked for", config->fd,
			config->queues);
	if (config->mac[0] & 1 || !memcmp(config->mac, none, sizeof(none)))
		return error_set(
			err, ERROR_BAD_REQUEST, "the MAC address is not that of one station");
	if (config->mtu && config->mtu < MTU_MIN)
		return error_set(
			err, ERROR_BAD_REQUEST, "mtu=%u is less than %u", config->mtu, MTU_MIN);
	if (config->vhost && (config->pps || config->bps))
		return error_set(
			err, ERROR_BAD_REQUEST, "limits (pps, bps) cannot be kept with vhost=on");
	return 0;
}

void net_mac(const struct virtio_device *dev, uint8_t mac[6])
{
	const struct net *net = container_of(dev, struct net, device);

	memcpy(mac, net->config.mac, sizeof(net->config.mac));
}

static void describe(struct net *net, const struct net_config *config)
{
	uint16_t mtu = guest_mtu(config);

	net->device.ops = &net_ops;
	net->device.features = offered(config, mtu);
	net->device.config_size = offsetof(struct virtio_net_config, mtu) + sizeof(net->config.mtu);
	memcpy(net->config.mac, config->mac, sizeof(net->config.mac));
	net->config.status = VIRTIO_NET_S_LINK_UP;
	net->config.max_virtqueue_pairs = (uint16_t)config->queues;
	net->config.mtu = mtu;
}

int net_create_on(const struct net_config *config, const int *fds, bool is_tap,
	const struct guest_memory *memory, struct loop *main_loop, struct virtio_device **out,
	struct error *err)
{
	struct net *net = calloc(1, sizeof(*net));
	int ret = 0;

	if (!net)
		return error_errno(err, ENOMEM, "cannot create a network device");
	net->pair_count = config->queues;
	net->is_tap = is_tap;
	net->vhost = config->vhost;
	for (unsigned i = 0; i < config->queues && ret == 0; i++)
		ret = net_pair_create(net, i, fds[i], err);
	if (ret == 0) {
		describe(net, config);
		ret = virtio_device_init(&net->device, config->id, memory, main_loop,
			2 * config->queues + 1, 2, NET_QUEUE_SIZE, err);
	}
	if (ret < 0) {
		free_net(net, false);
		return ret;
	}
	net_set_limits(&net->device, config->pps, config->bps);
	/* A freshly opened queue is attached; all but the first wait for the driver to ask for them. */
	for (unsigned i = 0; i < config->queues; i++) {
		net->pairs[i]->attached = true;
		if (i)
			net_pair_attach(net->pairs[i], false);
	}
	*out = &net->device;
	return 0;
}

static int open_and_create(const struct net_config *config, const struct guest_memory *memory,
	struct loop *main_loop, struct virtio_device **out, struct error *err)
{
	int fds[NET_QUEUE_PAIRS_MAX] = {config->fd};
	int ret = check(config, err);

	if (ret == 0)
		ret = config->fd >= 0 ? tap_adopt(config->fd, err)
				      : tap_open(config->tap, config->queues, fds, err);
	if (ret < 0)
		return ret;
	ret = net_create_on(config, fds, true, memory, main_loop, out, err);
	if (ret < 0 && config->fd < 0)
		for (unsigned i = 0; i < config->queues; i++)
			close(fds[i]);
	return ret;
}

int net_create(const struct net_config *config, const struct guest_memory *memory,
	struct loop *main_loop, struct virtio_device **out, struct error *err)
{
	int ret = open_and_create(config, memory, main_loop, out, err);

	return ret < 0 ? error_prefix(err, "net '%s'", config->id) : 0;
}
