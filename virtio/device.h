/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all virtio devices share (virtio 1.2 §2.1, §3): feature negotiation, the status state machine,
 * queues bound to I/O threads, reset in mid-flight, and breaking.
 *
 * Life of a device
 *   The driver negotiates on a vCPU thread; the transport (virtio/pci.c) forwards to the
 *   virtio_device_*() calls under `lock`. DRIVER_OK freezes the registers, and posts the activation
 *   to the main loop, which starts the I/O threads (only now: a device never driven costs nothing),
 *   and then each queue on its own thread: `queue_start`, then one `queue_kicked` for what the
 *   driver queued meanwhile, then one for each kick.
 *   Writing 0 to the status posts a reset: each queue is stopped on its thread (`queue_stop`, which
 *   ends when nothing is in flight any more), and only when all are does the status read 0 (§2.1.2
 *   tells the driver to wait for that). A vCPU never waits for I/O.
 *   Quiescing (virtio_device_quiesce()) stops the queues where they are, without a word to the driver:
 *   each takes no more chains (`pausing`), what was taken is completed, or kept by the device, and from
 *   then on its thread touches neither guest memory nor what is behind the device. quiesce.c has it.
 *   A guest that breaks the rules gets DEVICE_NEEDS_RESET (§2.1.2) and one log line; its queues are
 *   served no more until it resets the device. The monitor and other devices do not notice.
 *
 * Threads: config_* on vCPU threads under `lock`; queue_* on the queue's loop; create and destroy on
 * the main thread.
 */
#pragma once

#include "virtio/virtqueue.h"
#include "vmm/base/loop.h"
#include "vmm/state/state.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_QUEUES_MAX 34

struct virtio_device;
struct device_queue;
struct virtio_device_state;

struct virtio_ops {
	uint16_t id;	  /* §5: 1 net, 2 blk, 19 vsock */
	const char *name; /* "virtio-blk" */

	/* Device configuration space (§2.5), any size up to 8 bytes, inside config_size. May be NULL for write. */
	void (*config_read)(struct virtio_device *dev, uint32_t offset, void *data, uint32_t len);
	void (*config_write)(
		struct virtio_device *dev, uint32_t offset, const void *data, uint32_t len);

	/* The driver's features are final: refuse a combination by returning false (FEATURES_OK stays clear). May be NULL. */
	bool (*features_ok)(struct virtio_device *dev, uint64_t features);

	/* On the queue's loop. queue_start may be NULL. */
	void (*queue_start)(struct device_queue *dq);
	void (*queue_kicked)(struct device_queue *dq);
	/* Let go of the queue; call device_queue_stopped() when nothing is in flight, at once or later. */
	void (*queue_stop)(struct device_queue *dq);
	/*
	 * Stand still: dq->pausing is set, so device_queue_pop() takes no more. Complete what the kernel has, keep what can wait, signal the
	 * driver, and call device_queue_paused(), at once or later. queue_resume goes on with what was kept; queue_kicked follows it.
	 * May be NULL: whatever the device does with a queue is done when its callback returns. queue_stop may come meanwhile.
	 */
	void (*queue_pause)(struct device_queue *dq);
	void (*queue_resume)(struct device_queue *dq);

	/*
	 * State (device_state.c), on the main thread while the device is quiet. `own` is a structure as `state` describes it, of at most
	 * VIRTIO_OWN_STATE_MAX bytes. queue_kept: heads of the chains that queue_pause has kept, in the order in which they came, no more than
	 * VIRTQUEUE_SIZE_MAX; NULL: none ever. state_check judges what a hostile file may hold, without changing anything; state_load
	 * takes it over, with all that is shared taken over already.
	 */
	const struct state_table *state;
	unsigned (*queue_kept)(struct device_queue *dq, uint16_t *heads);
	void (*state_save)(struct virtio_device *dev, void *own);
	int (*state_check)(struct virtio_device *dev, const struct virtio_device_state *shared,
		const void *own, struct error *err);
	void (*state_load)(struct virtio_device *dev, const void *own);

	/* Free everything; threads are already stopped. */
	void (*destroy)(struct virtio_device *dev);
};

/* One queue in its device: the ring, the thread that serves it, its kick and its interrupt. */
struct device_queue {
	struct virtqueue ring;
	struct virtio_device *device;
	unsigned index;
	uint16_t size_max;   /* offered */
	struct loop *loop;   /* set once the I/O thread runs */
	_Atomic int kick_fd; /* eventfd, the ioeventfd's other end; -1 until first activation */
	struct loop_poll kick;
	struct loop_watch chains; /* watched while the queue is served: kicks are off then */
	bool external;		  /* the kernel serves it (vhost): kicks are not polled here */
	bool running; /* between queue_start and device_queue_stopped; loop thread only */
	bool stopping;
	bool pausing;	 /* it takes no chains: quiet, or about to be; loop thread only */
	bool pause_owed; /* device_queue_paused() has not come yet; loop thread only */

	/* Registers, written by the driver before DRIVER_OK, under device->lock, frozen after it. */
	struct virtqueue_registers registers;
	bool enabled;
	uint16_t vector; /* MSI-X vector or 0xffff */

	/* Chains that an earlier life took and did not complete: popped before all others. */
	unsigned kept_at, kept_count;
	uint16_t kept[VIRTQUEUE_SIZE_MAX];

	struct loop_job start_job, stop_job, pause_job, resume_job;
};

/* How a device reaches its transport. Any thread. */
struct virtio_transport {
	void (*queue_interrupt)(struct virtio_device *dev, uint16_t vector);
	void (*config_interrupt)(struct virtio_device *dev);
	/* The eventfd behind a vector, for a kernel back end; -1 when there is none. */
	int (*vector_fd)(struct virtio_device *dev, uint16_t vector);
	/* Route kicks to / away from the queues' kick_fd. Main thread. */
	void (*kicks_connect)(struct virtio_device *dev);
	void (*kicks_disconnect)(struct virtio_device *dev);
	/* Deliver what waits since a state was loaded. Main thread; may be NULL. */
	void (*interrupts_deliver)(struct virtio_device *dev);
};

struct virtio_device {
	const struct virtio_ops *ops;
	const struct virtio_transport *transport; /* NULL in unit tests and fuzzers */
	void *transport_owner;
	char id[64]; /* the user's name for it */
	const struct guest_memory *memory;
	struct loop *main_loop;

	uint64_t features;	  /* offered */
	uint64_t driver_features; /* accepted; final once FEATURES_OK is set */
	uint32_t config_size;
	unsigned queue_count;
	struct device_queue *queues;
	unsigned thread_count; /* queue i is served by threads[thread_of(i)], see init */
	struct loop_thread *threads;
	unsigned queues_per_thread;
	unsigned loop_entries;		 /* depth of each I/O thread's ring */
	void (*thread_enter)(void *arg); /* runs first on each I/O thread (seccomp), may be NULL */
	void *thread_enter_arg;
	unsigned vcpus; /* of the machine: they want CPUs while an I/O thread looks for work */

	pthread_mutex_t lock; /* guards negotiation: everything the transport's registers show */
	_Atomic uint8_t status;
	_Atomic uint8_t config_generation;
	bool activated; /* DRIVER_OK was accepted; until the reset is complete */
	bool resetting;
	_Atomic bool broken;	 /* queues are served no more until reset */
	unsigned queues_running; /* main loop only */
	struct loop_job activate_job, reset_job, queue_done_job;
	/* shared: queue threads add, main loop takes: DEVICE_QUEUE_STOPPED or DEVICE_QUEUE_PAUSED each */
	_Atomic unsigned queues_done;
	void (*reset_done)(struct virtio_device *dev, void *arg); /* main loop only */
	void *reset_done_arg;

	/* Quiescing: the main loop's only, but for the first two. */
	_Atomic bool quiet;	     /* wished: nothing starts, what runs is paused */
	_Atomic bool config_changed; /* while it was quiet: the interrupt comes after */
	bool start_held;	     /* activated, and started when no longer quiet */
	bool paused;		     /* its queues run, and all stand still */
	unsigned queues_pausing;     /* that have been asked and have not answered */
	void (*quiesce_done)(struct virtio_device *dev, void *arg);
	void *quiesce_done_arg;
};

/*
 * Fill in the shared part. The device sets ops, features and config_size before; VIRTIO_F_VERSION_1,
 * EVENT_IDX and INDIRECT_DESC are added here. Consecutive `queues_per_thread` queues share a thread.
 * `queue_size` is the largest size offered.
 */
int virtio_device_init(struct virtio_device *dev, const char *id, const struct guest_memory *memory,
	struct loop *main_loop, unsigned queue_count, unsigned queues_per_thread,
	uint16_t queue_size, struct error *err);

/* Reset it as the driver would, and call `done` (may be NULL) on the main loop when nothing is in
 * flight any more. Main thread, no vCPU running; one at a time. */
void virtio_device_reset(
	struct virtio_device *dev, void (*done)(struct virtio_device *dev, void *arg), void *arg);

/* The same, waiting: turns the main loop until it is done. Only outside loop_run() of the main loop. */
void virtio_device_reset_now(struct virtio_device *dev);

/*
 * Make it stand still, and call `done` on the main loop when it does, perhaps at once: every queue is at a chain's boundary, all that was
 * completed is in the rings, every interrupt for it is raised, and no thread touches guest memory or what is behind the device until
 * virtio_device_unquiesce(). What is on its way to storage is waited for; what a limit holds back is not. A device that is
 * not driven, broken, or being reset comes to rest as well, and one may be reset meanwhile. Main thread, no vCPU running.
 */
void virtio_device_quiesce(
	struct virtio_device *dev, void (*done)(struct virtio_device *dev, void *arg), void *arg);

/* Go on as if nothing had been. Before `done` was called: it never will be. Not quiesced: nothing happens. Main thread. */
void virtio_device_unquiesce(struct virtio_device *dev);

/* Reset it and wait (as above, unless it is idle already), stop its threads, then ops->destroy. */
void virtio_device_destroy(struct virtio_device *dev);

/* ---- State (device_state.c); main thread, of a quiet device ---- */

#define VIRTIO_OWN_STATE_MAX 128

/* A queue, stopped at a chain's boundary. */
struct virtqueue_state {
	uint64_t desc, driver, device;
	uint16_t size, vector;
	uint16_t next_avail, next_used, signalled_used; /* of one that runs */
	uint8_t enabled;
	uint32_t kept_count;
	uint16_t kept[VIRTQUEUE_SIZE_MAX]; /* taken and not completed, by their heads */
};

struct virtio_device_state {
	uint16_t type;
	uint8_t status, activated, broken;
	uint8_t config_generation, config_changed;
	uint64_t driver_features;
	uint32_t queue_count;
	struct virtqueue_state queues[VIRTIO_QUEUES_MAX];
};

extern const struct state_table virtqueue_state_table;

void virtio_device_save(struct virtio_device *dev, struct virtio_device_state *s);

/* Whether this device may go on as the one that was saved; nothing is changed. */
int virtio_device_check(
	struct virtio_device *dev, const struct virtio_device_state *s, struct error *err);

/* Take over what was checked, on a device that nobody drives: it is quiet then, and goes on with virtio_device_unquiesce(). */
void virtio_device_load(struct virtio_device *dev, const struct virtio_device_state *s);

/* ---- For devices, on the queue's loop ---- */

/* virtqueue_pop() that breaks the device on a violation: true when a chain was taken. */
bool device_queue_pop(struct device_queue *dq, struct descriptor_chain *chain);

/*
 * The queue was served until it was empty: call queue_kicked when there is more, by looking as long as
 * the thread is awake, by a kick when it sleeps. Kicks should be off (virtqueue_disable_kicks).
 */
void device_queue_rest(struct device_queue *dq);

/* Interrupt the driver for what was pushed, if it wants one. Call once a batch. */
void device_queue_signal(struct device_queue *dq);

/* Nothing of this queue is in flight any more (answer to queue_stop). */
void device_queue_stopped(struct device_queue *dq);

/* The queue stands still (answer to queue_pause); ignored when nobody waits for that any more. */
void device_queue_paused(struct device_queue *dq);

/* Its ring may be touched: completions go there. */
static inline bool device_queue_usable(const struct device_queue *dq)
{
	return dq->running && !dq->stopping &&
	       !atomic_load_explicit(&dq->device->broken, memory_order_relaxed);
}

/* It may be served: chains taken, and what they ask for begun. */
static inline bool device_queue_serving(const struct device_queue *dq)
{
	return device_queue_usable(dq) && !dq->pausing;
}

/* ---- For devices, any thread ---- */

/* The guest broke a rule: set DEVICE_NEEDS_RESET, tell the driver, log one rate-limited line. */
void virtio_device_break(struct virtio_device *dev, const char *why);

/* Configuration space changed (resize, link): new generation, configuration interrupt. */
void virtio_device_config_changed(struct virtio_device *dev);

static inline bool virtio_has_feature(const struct virtio_device *dev, unsigned bit)
{
	return dev->driver_features >> bit & 1;
}

/* ---- For the transport, under dev->lock ---- */
void virtio_device_set_status(struct virtio_device *dev, uint8_t status);
void virtio_device_set_driver_features(struct virtio_device *dev, unsigned word, uint32_t value);
/* Registers may be written: not after DRIVER_OK, not while resetting. */
bool virtio_device_configurable(const struct virtio_device *dev);
/* A kick that came as an exit instead of through the ioeventfd. */
void virtio_device_kick(struct virtio_device *dev, unsigned queue);
