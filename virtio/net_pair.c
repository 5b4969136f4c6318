/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a queue pair of virtio-net: whether it carries packets, and what that takes.
 *
 * A pair carries packets while its queues run and it is one of the `active_pairs` (§5.1.6.5.5: one,
 * until the driver asks for more). net_pair_sync() alone decides: it is called on the pair's thread
 * whenever one of these changed, compares what should be with what is, and starts or stops the
 * back end. A pair that carries nothing is detached from the tap, so that the host steers no flow to
 * it. Stopping the poll of the tap takes until the kernel has let go of it; whatever was wanted
 * meanwhile is looked at then.
 *
 * A pair that is to stand still keeps its poll and its place at the tap, and only moves nothing: what arrives waits in the tap's
 * queue. The kernel's (vhost) gives its rings back as if it were stopped, and gets them again.
 */
#include "virtio/net_private.h"

#include "virtio/tap.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <string.h>

static bool wanted(const struct net_pair *pair)
{
	const struct device_queue *rx = net_rx_queue(pair), *tx = net_tx_queue(pair);

	if (pair->index >= atomic_load(&pair->net->active_pairs) || !device_queue_usable(rx))
		return false;
	/* The kernel takes both rings or none. */
	return !pair->net->vhost || (device_queue_serving(rx) && device_queue_serving(tx));
}

void net_pair_attach(struct net_pair *pair, bool attached)
{
	int ret;

	if (pair->net->pair_count == 1 || pair->attached == attached || !pair->net->is_tap)
		return;
	ret = tap_attach_queue(pair->fd, attached);
	if (ret < 0)
		log_warn("virtio-net '%s': cannot %s queue %u of the tap: %s", pair->net->device.id,
			attached ? "attach" : "detach", pair->index, strerrordesc_np(-ret));
	else
		pair->attached = attached;
}

void net_pairs_stop_broken(struct net *net)
{
	if (!atomic_load(&net->device.broken))
		return;
	for (unsigned i = 0; i < net->pair_count; i++)
		net_pair_post_sync(net->pairs[i]);
}

static void vhost_failed(struct vhost_net *vhost)
{
	struct net *net = container_of(vhost, struct net_pair, vhost)->net;

	virtio_device_break(&net->device, "vhost-net cannot go on with a ring");
	net_pairs_stop_broken(net);
}

static void vhost_stopped(struct vhost_net *vhost)
{
	net_pair_sync(container_of(vhost, struct net_pair, vhost));
}

static void start_vhost(struct net_pair *pair)
{
	struct error err;

	if (vhost_net_start(&pair->vhost, net_rx_queue(pair), net_tx_queue(pair), pair->fd, &err) ==
		0)
		return;
	log_error("virtio-net '%s': %s", pair->net->device.id, err.text);
	virtio_device_break(&pair->net->device, "the host's kernel could not serve it");
	net_pairs_stop_broken(pair->net);
}

static void start(struct net_pair *pair)
{
	struct net *net = pair->net;
	int ret = 0;

	/* Each pair sets them, before it can receive: whichever is first, none sees a packet too early. */
	if (net->is_tap)
		ret = tap_set_offloads(pair->fd, atomic_load(&net->guest_offloads));
	if (ret < 0)
		log_warn("virtio-net '%s': cannot set the tap's offloads: %s", net->device.id,
			strerrordesc_np(-ret));
	net_pair_attach(pair, true);
	if (net->vhost)
		start_vhost(pair);
	else
		net_rx_start(pair);
}

/* Bring the pair in line. True: it is. False: a poll of it is still ending, and this is called again then. */
static bool settle(struct net_pair *pair)
{
	struct net *net = pair->net;
	bool running = net->vhost ? pair->vhost.running : pair->rx.state == NET_RX_ON;
	bool should = wanted(pair);

	if (pair->rx.state == NET_RX_ENDING || pair->vhost.ending)
		return false;
	if (should && !running)
		start(pair);
	if (!should && running) {
		if (net->vhost)
			vhost_net_stop(&pair->vhost, net_rx_queue(pair), net_tx_queue(pair));
		else
			net_rx_stop(pair);
		return false;
	}
	if (!should && pair->index)
		net_pair_attach(pair, false);
	return true;
}

void net_pair_sync(struct net_pair *pair)
{
	if (!settle(pair))
		return;
	if (pair->rx.stop_asked) {
		pair->rx.stop_asked = pair->rx.pause_asked = false;
		device_queue_stopped(net_rx_queue(pair));
	} else if (pair->rx.pause_asked) {
		pair->rx.pause_asked = false;
		device_queue_paused(net_rx_queue(pair));
	}
}

static void sync_job(struct loop_job *job)
{
	struct net_pair *pair = container_of(job, struct net_pair, sync_job);

	atomic_store(&pair->sync_posted, false);
	net_pair_sync(pair);
}

void net_pair_post_sync(struct net_pair *pair)
{
	struct device_queue *rx = net_rx_queue(pair);

	if (rx->enabled && !atomic_exchange(&pair->sync_posted, true))
		loop_post(rx->loop, &pair->sync_job);
}

int net_pair_create(struct net *net, unsigned index, int fd, struct error *err)
{
	struct net_pair *pair = calloc(1, sizeof(*pair));

	if (!pair)
		return error_errno(err, ENOMEM, "cannot create a queue pair");
	net->pairs[index] = pair;
	pair->net = net;
	pair->index = index;
	pair->fd = fd;
	pair->vhost.fd = -1;
	pair->vhost.failed = vhost_failed;
	pair->vhost.stopped = vhost_stopped;
	pair->sync_job.run = sync_job;
	net_rx_init(pair);
	net_tx_init(pair);
	return net->vhost ? vhost_net_open(&pair->vhost, err) : 0;
}
