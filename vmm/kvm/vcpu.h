/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs: one thread each, in KVM_RUN or parked.
 *
 * Pausing signals all first and then waits for all, so it takes as long as the slowest, not the sum.
 * No signal handler is installed (the host process may be a node agent): the kick signal stays
 * blocked in the thread and is let in only inside KVM_RUN by KVM_SET_SIGNAL_MASK (KVM API §4.21); a pending one makes
 * KVM_RUN return EINTR at once, so a kick between the check and the ioctl is never lost.
 *
 * The exit path takes no lock and allocates nothing. Exits that need the machine (shutdown, reset,
 * errors) are handed to `ops->stopped` once, after which the thread parks.
 */
#pragma once

#include "vmm/kvm/kvm.h"

#include <pthread.h>
#include <stdatomic.h>

#define VCPUS_MAX 64

/* Why a vCPU stopped by itself. */
enum vcpu_stop {
	VCPU_STOP_NONE,
	VCPU_STOP_SHUTDOWN,	  /* KVM_EXIT_SHUTDOWN: a triple fault */
	VCPU_STOP_SYSTEM_EVENT,	  /* KVM_EXIT_SYSTEM_EVENT: see `detail` (PSCI on arm64) */
	VCPU_STOP_INTERNAL_ERROR, /* KVM could not go on: `detail` is the suberror */
	VCPU_STOP_ENTRY_FAILED,	  /* KVM_EXIT_FAIL_ENTRY: `detail` is the hardware reason */
	VCPU_STOP_ERROR,	  /* KVM_RUN failed: `detail` is the errno */
};

struct vcpu;

/* The machine's side. All are called on the vCPU's thread. `data` is little-endian, as the guest sees it. */
struct vcpu_ops {
	void (*mmio_read)(void *owner, uint64_t gpa, uint8_t *data, unsigned len);
	void (*mmio_write)(void *owner, uint64_t gpa, const uint8_t *data, unsigned len);
	void (*port_read)(void *owner, uint16_t port, uint8_t *data, unsigned len);
	void (*port_write)(void *owner, uint16_t port, const uint8_t *data, unsigned len);
	void (*stopped)(void *owner, struct vcpu *vcpu, enum vcpu_stop why, uint64_t detail);
	/* KVM_EXIT_DEBUG: it is `trapped` and held, and run->debug says where, until a debugger lets it go. */
	void (*debug)(void *owner, struct vcpu *vcpu);
	void (*enter)(
		void *owner, struct vcpu *vcpu); /* first thing on the new thread; may be NULL */
};

/* Exit counters by reason, written by the vCPU's thread only, read by anyone (relaxed). */
struct vcpu_counters {
	_Atomic uint64_t exits, mmio, port, halt, interrupted, other;
};

struct vcpu {
	struct vm *vm;
	unsigned index;	 /* also the APIC id */
	int fd;		 /* KVM_RUN holds it: any other ioctl waits until the thread comes back */
	int stats_fd;	 /* for kvm_stats_add(); -1: this KVM has none */
	_Atomic int tid; /* of the thread; 0: it has not begun */
	int sched_fd;	 /* for vcpu_add_times(); -1: nobody has asked yet */
	struct kvm_run *run;
	const struct vcpu_ops *ops;
	void *owner;
	pthread_t thread;
	bool started;
	_Atomic bool out;	    /* the guest has let go of it: it stays at the gate */
	const struct log_sink *log; /* of the thread that started it */
	struct vcpu_group *group;
	_Atomic bool held;    /* waits at the gate whatever the group does: see vcpu_hold() */
	_Atomic bool trapped; /* in a debug exit that no debugger has looked at yet */
	bool unsettled;	      /* its thread only: the last exit is not complete in KVM */
	struct vcpu_counters counters;
};

/* All vCPUs of a machine, and the gate they run behind. */
struct vcpu_group {
	struct vm *vm;
	unsigned count;
	struct vcpu *vcpus[VCPUS_MAX];
	pthread_mutex_t lock; /* guards what is below, with the two conditions */
	pthread_cond_t resumed, parked;
	_Atomic bool hold; /* threads park while set */
	bool quit;
	unsigned parked_count;
};

void vcpu_group_init(struct vcpu_group *group, struct vm *vm);

/* Add vCPU number group->count: created in KVM, its kvm_run mapped, no thread yet. */
int vcpu_add(struct vcpu_group *group, const struct vcpu_ops *ops, void *owner, struct error *err);

/* Start the threads, parked until vcpus_resume(). */
int vcpus_start(struct vcpu_group *group, struct error *err);

/* Undo the last vcpu_add(), of a vCPU whose thread was not started. KVM will not make one of that number again. */
void vcpu_drop_last(struct vcpu_group *group);

/* Take a vCPU out of the guest's hands, or give it back as it was. One that is out does not run, whatever the guest sends it. */
void vcpu_set_out(struct vcpu *vcpu, bool out);

/* Let all run. */
void vcpus_resume(struct vcpu_group *group);

/*
 * Keep one vCPU at the gate while the others run, or let it go with them. Only while the group is paused, or for one that
 * is at the gate already.
 */
void vcpu_hold(struct vcpu *vcpu, bool held);

/* Returns when no vCPU is in KVM_RUN or in a callback. Never from a vCPU's own thread. */
void vcpus_pause(struct vcpu_group *group);

/* What the vCPU's thread has run, and stood ready to run while the host's CPUs did something else. */
struct vcpu_times {
	uint64_t ran_ns, waited_ns;
};

/* Add them to `times`: one system call, but for the first time. False where the host does not tell. One thread at a time. */
bool vcpu_add_times(struct vcpu *vcpu, struct vcpu_times *times);

/* End and join the threads, close the descriptors, empty the group. */
void vcpus_destroy(struct vcpu_group *group);
