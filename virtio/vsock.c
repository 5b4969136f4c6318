/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (virtio 1.2 §5.10): the device, and when its work is done.
 *
 * Three queues, one I/O thread. Whatever happens there (a kick, a socket, a timer) only notes what
 * waits and schedules one run at the end of the loop's round. A run takes turns between packets from
 * the guest, packets to it, and new connections of host programs; after so many turns the other events of the
 * loop come first again, so neither a flooding guest nor a flooding host program starves the rest.
 *
 * Bounds, whatever the guest and the host programs do: VSOCK_STREAMS_MAX streams, for each at most the
 * buffer that was advertised to the guest, a set of flags for the packets it is owed, and one ring of
 * refusals. Everything else stays where it is: in the guest's rings, in the sockets, in the listen queue.
 *
 * Life. The socket at PATH exists as long as the device. While both data queues run the device is
 * `open`, and the I/O thread accepts; otherwise the main thread closes whoever connects. When a queue
 * is stopped all streams are dropped; the stop is answered when the ring has let go of every socket.
 * While one is paused no run takes turns: rings and credit stay as they are, and the sockets' buffers hold what comes.
 */
#include "virtio/vsock_private.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define VSOCK_DEVICE_ID	  19
#define VSOCK_F_STREAM	  0 /* §5.10.3; Linux' header does not name it */
#define VSOCK_TURNS	  32
#define VSOCK_DATA_QUEUES (1u << VSOCK_RX | 1u << VSOCK_TX)

static struct vsock *vsock_of(struct virtio_device *dev)
{
	return container_of(dev, struct vsock, device);
}

/* ---- work ---- */

void vsock_schedule(struct vsock *v)
{
	loop_defer(v->loop, &v->run_job);
}

static void send_event(struct vsock *v)
{
	const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct device_queue *dq = vsock_queue(v, VSOCK_EVENT);
	struct descriptor_chain chain = {
		.segments = v->chain_segments, .capacity = VSOCK_QUEUE_SIZE};

	if (!v->event_waits || !device_queue_pop(dq, &chain))
		return;
	if (chain_write(&chain, 0, &event, sizeof(event)) < sizeof(event)) {
		virtio_device_break(&v->device, "an event buffer is too small for an event");
		return;
	}
	v->event_waits = false;
	virtqueue_push(&dq->ring, chain.head, sizeof(event));
	device_queue_signal(dq);
}

/* Ask for kicks where we wait for the driver; true when it was faster. */
static bool await_driver(struct vsock *v)
{
	bool more = false;

	if (v->refusal_count < VSOCK_REFUSALS)
		more |= virtqueue_enable_kicks(&vsock_queue(v, VSOCK_TX)->ring);
	if (v->rx_starved)
		more |= virtqueue_enable_kicks(&vsock_queue(v, VSOCK_RX)->ring);
	if (v->event_waits && vsock_queue(v, VSOCK_EVENT)->running)
		more |= virtqueue_enable_kicks(&vsock_queue(v, VSOCK_EVENT)->ring);
	return more;
}

static bool take_turns(struct vsock *v)
{
	virtqueue_disable_kicks(&vsock_queue(v, VSOCK_TX)->ring);
	virtqueue_disable_kicks(&vsock_queue(v, VSOCK_RX)->ring);
	for (unsigned i = 0; i < VSOCK_TURNS; i++) {
		bool more;

		send_event(v);
		more = vsock_tx_turn(v);
		more |= vsock_rx_turn(v);
		more |= vsock_bridge_accept(v);
		if (atomic_load(&v->device.broken))
			return false;
		if (!more && !await_driver(v))
			return false;
	}
	return true;
}

static void run(struct loop_job *job)
{
	struct vsock *v = container_of(job, struct vsock, run_job);

	if (atomic_load(&v->open)) {
		if (!atomic_load(&v->device.broken) && !v->paused && take_turns(v))
			loop_timer_set(v->loop, &v->again, now_ns());
		if (atomic_load(&v->device.broken)) {
			vsock_drop_all(v);
			vsock_bridge_refuse(v);
		}
	}
	vsock_reap(v);
	vsock_check_stopped(v);
}

static void run_again(struct loop_timer *timer)
{
	vsock_schedule(container_of(timer, struct vsock, again));
}

static void accept_again(struct loop_timer *timer)
{
	struct vsock *v = container_of(timer, struct vsock, accept_again);

	v->accept_waits = true;
	vsock_schedule(v);
}

/* ---- queues ---- */

static void queue_start(struct device_queue *dq)
{
	struct vsock *v = vsock_of(dq->device);

	v->loop = dq->loop;
	v->started |= (uint8_t)(1u << dq->index);
	if (atomic_load(&v->open) || (v->started & VSOCK_DATA_QUEUES) != VSOCK_DATA_QUEUES)
		return;
	v->refusal_count = 0;
	v->event_waits = v->resumed;
	v->resumed = false;
	atomic_store(&v->open, true);
	vsock_bridge_start(v);
}

static void queue_kicked(struct device_queue *dq)
{
	vsock_schedule(vsock_of(dq->device));
}

/* All is done within a run. */
static void queue_pause(struct device_queue *dq)
{
	vsock_of(dq->device)->paused |= (uint8_t)(1u << dq->index);
	device_queue_paused(dq);
}

static void queue_resume(struct device_queue *dq)
{
	vsock_of(dq->device)->paused &= (uint8_t) ~(1u << dq->index);
}

static void close_all(struct vsock *v)
{
	atomic_store(&v->open, false);
	loop_timer_clear(v->loop, &v->again);
	loop_timer_clear(v->loop, &v->accept_again);
	vsock_drop_all(v);
	vsock_bridge_stop(v);
}

static void queue_stop(struct device_queue *dq)
{
	struct vsock *v = vsock_of(dq->device);

	v->started &= (uint8_t) ~(1u << dq->index);
	v->paused &= (uint8_t) ~(1u << dq->index);
	v->stop_asked |= (uint8_t)(1u << dq->index);
	if (atomic_load(&v->open))
		close_all(v);
	vsock_schedule(v); /* the dead are reaped there */
}

void vsock_check_stopped(struct vsock *v)
{
	if (!v->stop_asked || v->listening || v->stream_count)
		return;
	for (unsigned i = 0; i < VSOCK_QUEUES; i++)
		if (v->stop_asked >> i & 1)
			device_queue_stopped(vsock_queue(v, i));
	v->stop_asked = 0;
}

/* ---- transport reset, §5.10.6.8 ---- */

static void transport_reset(struct loop_job *job)
{
	struct vsock *v = container_of(job, struct vsock, transport_job);

	atomic_store(&v->reset_posted, false);
	if (!atomic_load(&v->open))
		return;
	vsock_drop_all(v);
	v->event_waits = true;
	vsock_schedule(v);
}

void vsock_transport_reset(struct virtio_device *dev)
{
	struct vsock *v = vsock_of(dev);
	struct loop *loop = vsock_queue(v, VSOCK_EVENT)->loop;

	if (loop && !atomic_exchange(&v->reset_posted, true))
		loop_post(loop, &v->transport_job);
}

/* ---- the device ---- */

static void config_read(struct virtio_device *dev, uint32_t offset, void *data, uint32_t len)
{
	const struct virtio_vsock_config config = {.guest_cid = vsock_of(dev)->cid};

	memcpy(data, (const uint8_t *)&config + offset, len);
}

static void refuse_ready(struct loop_poll *poll, uint32_t revents)
{
	struct vsock *v = container_of(poll, struct vsock, refuse);

	(void)revents;
	if (!atomic_load(&v->open))
		vsock_bridge_refuse(v);
}

static void refuse_stopped(struct loop_poll *poll)
{
	struct vsock *v = container_of(poll, struct vsock, refuse);

	v->refuse.fd = -1;
	loop_stop(v->device.main_loop);
}

static void destroy(struct virtio_device *dev)
{
	struct vsock *v = vsock_of(dev);
	struct error err;

	loop_poll_stop(&v->refuse, refuse_stopped);
	while (v->refuse.fd >= 0)
		if (loop_run(dev->main_loop, &err) < 0)
			log_error("%s '%s': %s", dev->ops->name, dev->id, err.text);
	unix_listener_close(&v->listener);
	free(v);
}

/* ---- state ---- */

/*
 * Streams are not saved: their other ends are sockets of this host. A guest that goes on elsewhere, or later, hears TRANSPORT_RESET (§5.10.6.7),
 * ends its connections and asks for its address anew, which may be another one there.
 */
struct vsock_saved {
	uint64_t guest_cid;
};
_Static_assert(sizeof(struct vsock_saved) <= VIRTIO_OWN_STATE_MAX, "it is kept in the transport's");

static const struct state_field state_fields[] = {
	STATE_UINT(struct vsock_saved, guest_cid, .max = VSOCK_CID_MAX),
};
static const struct state_table state_table =
	STATE_TABLE("vsock", 1, struct vsock_saved, state_fields);

static void state_save_own(struct virtio_device *dev, void *own)
{
	*(struct vsock_saved *)own = (struct vsock_saved){.guest_cid = vsock_of(dev)->cid};
}

static int state_check(struct virtio_device *dev, const struct virtio_device_state *shared,
	const void *own, struct error *err)
{
	(void)dev, (void)shared, (void)own, (void)err;
	return 0;
}

static void state_load_own(struct virtio_device *dev, const void *own)
{
	(void)own;
	vsock_of(dev)->resumed = dev->activated;
}

static const struct virtio_ops vsock_ops = {
	.id = VSOCK_DEVICE_ID,
	.name = "virtio-vsock",
	.config_read = config_read,
	.queue_start = queue_start,
	.queue_kicked = queue_kicked,
	.queue_stop = queue_stop,
	.queue_pause = queue_pause,
	.queue_resume = queue_resume,
	.state = &state_table,
	.state_save = state_save_own,
	.state_check = state_check,
	.state_load = state_load_own,
	.destroy = destroy,
};

static int check_config(const struct vsock_config *config, struct error *err)
{
	if (config->cid < VSOCK_CID_MIN || config->cid > VSOCK_CID_MAX)
		return error_set(err, ERROR_BAD_REQUEST,
			"the vsock cid %llu is not a whole number from %u to %u",
			(unsigned long long)config->cid, VSOCK_CID_MIN, VSOCK_CID_MAX);
	return 0;
}

static void init(struct vsock *v, const struct vsock_config *config)
{
	v->cid = config->cid;
	v->run_job.run = run;
	v->transport_job.run = transport_reset;
	v->again.fire = run_again;
	v->accept_again.fire = accept_again;
	TAILQ_INIT(&v->streams);
	TAILQ_INIT(&v->owing);
	TAILQ_INIT(&v->ready);
	TAILQ_INIT(&v->dead);
	v->device.ops = &vsock_ops;
	v->device.features = 1ull << VSOCK_F_STREAM;
	v->device.config_size = sizeof(struct virtio_vsock_config);
}

int vsock_create(const struct vsock_config *config, const struct guest_memory *memory,
	struct loop *main_loop, struct virtio_device **out, struct error *err)
{
	_cleanup_free_ struct vsock *v = NULL;
	int ret = check_config(config, err);

	if (ret < 0)
		return ret;
	v = calloc(1, sizeof(*v));
	if (!v)
		return error_errno(err, ENOMEM, "cannot create the vsock");
	init(v, config);
	ret = unix_listener_open(&v->listener, "the vsock socket", config->socket, VSOCK_PATH_MAX,
		VSOCK_BACKLOG, err);
	if (ret < 0)
		return ret;
	ret = virtio_device_init(&v->device, "vsock", memory, main_loop, VSOCK_QUEUES, VSOCK_QUEUES,
		VSOCK_QUEUE_SIZE, err);
	if (ret < 0) {
		unix_listener_close(&v->listener);
		return ret;
	}
	v->refuse =
		(struct loop_poll){.fd = v->listener.fd, .events = POLLIN, .ready = refuse_ready};
	loop_poll_start(main_loop, &v->refuse);
	*out = &v->device;
	v = NULL;
	return 0;
}
