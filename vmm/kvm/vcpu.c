/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPU threads. See vcpu.h for the contract.
 *
 * The gate: a thread that finds `hold` set parks under the group's lock until vcpus_resume() or the
 * end. vcpus_pause() sets `hold`, signals every thread, and waits until all are parked. A thread
 * checks `hold` before each KVM_RUN; a signal that arrives after the check stays pending (it is
 * blocked outside KVM_RUN) and makes KVM_RUN return at once.
 */
#include "vmm/kvm/vcpu.h"

#include "vmm/base/log.h"
#include "vmm/base/probe.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Only ever blocked or let in by KVM_RUN; no handler is installed, no process-wide state changed. */
#define KICK_SIGNAL (SIGRTMIN + 1)

static void count(_Atomic uint64_t *counter)
{
	/* One writer: a plain add without a locked instruction. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

void vcpu_group_init(struct vcpu_group *group, struct vm *vm)
{
	memset(group, 0, sizeof(*group));
	group->vm = vm;
	atomic_store(&group->hold, true);
	pthread_mutex_init(&group->lock, NULL);
	pthread_cond_init(&group->resumed, NULL);
	pthread_cond_init(&group->parked, NULL);
}

int vcpu_add(struct vcpu_group *group, const struct vcpu_ops *ops, void *owner, struct error *err)
{
	struct vm *vm = group->vm;
	_cleanup_free_ struct vcpu *vcpu = calloc(1, sizeof(*vcpu));
	_cleanup_close_ int fd = -1;

	BUG_ON(group->count == VCPUS_MAX);
	if (!vcpu)
		return error_errno(err, ENOMEM, "cannot create vCPU %u", group->count);
	fd = ioctl(vm->fd, KVM_CREATE_VCPU, group->count);
	if (fd < 0)
		return error_errno(err, errno, "KVM cannot create vCPU %u", group->count);
	vcpu->run =
		mmap(NULL, (size_t)vm->vcpu_mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (vcpu->run == MAP_FAILED)
		return error_errno(err, errno, "cannot map the state of vCPU %u", group->count);
	vcpu->vm = vm;
	vcpu->index = group->count;
	vcpu->ops = ops;
	vcpu->owner = owner;
	vcpu->group = group;
	vcpu->stats_fd = ioctl(fd, KVM_GET_STATS_FD, 0);
	vcpu->sched_fd = -1;
	vcpu->fd = steal_fd(&fd);
	group->vcpus[group->count++] = steal_ptr(&vcpu);
	return 0;
}

/* §5 KVM_EXIT_IO: `count` items of `size` bytes for one port, in the mapped page. */
static void handle_port(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	count(&vcpu->counters.port);
	PROBE(vcpu__port, vcpu->index, run->io.port, run->io.size, run->io.direction);
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			vcpu->ops->port_write(vcpu->owner, run->io.port, data, run->io.size);
		else
			vcpu->ops->port_read(vcpu->owner, run->io.port, data, run->io.size);
	}
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	count(&vcpu->counters.mmio);
	PROBE(vcpu__mmio, vcpu->index, run->mmio.phys_addr, run->mmio.len, run->mmio.is_write);
	if (run->mmio.is_write)
		vcpu->ops->mmio_write(
			vcpu->owner, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		vcpu->ops->mmio_read(
			vcpu->owner, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

/* Returns why the vCPU cannot go on, or VCPU_STOP_NONE. */
static enum vcpu_stop handle_exit(struct vcpu *vcpu, uint64_t *detail)
{
	struct kvm_run *run = vcpu->run;

	count(&vcpu->counters.exits);
	vcpu->unsettled = run->exit_reason == KVM_EXIT_MMIO || run->exit_reason == KVM_EXIT_IO;
	PROBE(vcpu__exit, vcpu->index, run->exit_reason);
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return VCPU_STOP_NONE;
	case KVM_EXIT_IO:
		handle_port(vcpu);
		return VCPU_STOP_NONE;
	case KVM_EXIT_INTR:
		count(&vcpu->counters.interrupted);
		return VCPU_STOP_NONE;
	case KVM_EXIT_HLT: /* only without an in-kernel LAPIC, which we always have */
		count(&vcpu->counters.halt);
		return VCPU_STOP_NONE;
	case KVM_EXIT_DEBUG:
		atomic_store(&vcpu->held, true);
		atomic_store(&vcpu->trapped, true);
		vcpu->ops->debug(vcpu->owner, vcpu);
		return VCPU_STOP_NONE;
	case KVM_EXIT_SHUTDOWN:
		return VCPU_STOP_SHUTDOWN;
	case KVM_EXIT_SYSTEM_EVENT:
		*detail = run->system_event.type;
		return VCPU_STOP_SYSTEM_EVENT;
	case KVM_EXIT_INTERNAL_ERROR:
		*detail = run->internal.suberror;
		return VCPU_STOP_INTERNAL_ERROR;
	case KVM_EXIT_FAIL_ENTRY:
		*detail = run->fail_entry.hardware_entry_failure_reason;
		return VCPU_STOP_ENTRY_FAILED;
	default:
		count(&vcpu->counters.other);
		*detail = run->exit_reason;
		return VCPU_STOP_INTERNAL_ERROR;
	}
}

/* A kick that has done its work must not end the next KVM_RUN too. */
static void take_kick(void)
{
	struct timespec at_once = {0};
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	while (sigtimedwait(&kick, NULL, &at_once) > 0)
		;
}

static bool must_wait(const struct vcpu *vcpu)
{
	return atomic_load_explicit(&vcpu->group->hold, memory_order_relaxed) ||
	       atomic_load_explicit(&vcpu->held, memory_order_relaxed) ||
	       atomic_load_explicit(&vcpu->out, memory_order_relaxed);
}

/* Wait at the gate. Returns false when the thread is to end. */
static bool pass_gate(struct vcpu *vcpu)
{
	struct vcpu_group *group = vcpu->group;
	bool go_on;

	pthread_mutex_lock(&group->lock);
	group->parked_count++;
	pthread_cond_signal(&group->parked);
	while (must_wait(vcpu) && !group->quit)
		pthread_cond_wait(&group->resumed, &group->lock);
	group->parked_count--;
	go_on = !group->quit;
	pthread_mutex_unlock(&group->lock);
	take_kick();
	return go_on;
}

/* Stopped by itself: say so once, then stay at the gate until the end. */
static void stop(struct vcpu *vcpu, enum vcpu_stop why, uint64_t detail)
{
	struct vcpu_group *group = vcpu->group;

	vcpu->ops->stopped(vcpu->owner, vcpu, why, detail);
	pthread_mutex_lock(&group->lock);
	group->parked_count++;
	pthread_cond_signal(&group->parked);
	while (!group->quit)
		pthread_cond_wait(&group->resumed, &group->lock);
	group->parked_count--;
	pthread_mutex_unlock(&group->lock);
}

/*
 * §5: what an access to a port or register has begun is complete only when KVM_RUN is entered again, and until then
 * the registers are not those of a point between two instructions. With immediate_exit that is all KVM_RUN does.
 */
static enum vcpu_stop settle(struct vcpu *vcpu, uint64_t *detail)
{
	enum vcpu_stop why = VCPU_STOP_NONE;

	while (vcpu->unsettled && why == VCPU_STOP_NONE) {
		int ret;

		vcpu->unsettled = false;
		vcpu->run->immediate_exit = 1;
		ret = ioctl(vcpu->fd, KVM_RUN, 0);
		vcpu->run->immediate_exit = 0;
		if (ret == 0) /* an access in several parts, or a step that it ends */
			why = handle_exit(vcpu, detail);
	}
	return why;
}

static void run(struct vcpu *vcpu)
{
	enum vcpu_stop why = VCPU_STOP_NONE;
	uint64_t detail = 0;

	while (why == VCPU_STOP_NONE) {
		/* Asked again behind the gate: the kick of the next pause may be the one that was taken there. */
		while (must_wait(vcpu)) {
			why = settle(vcpu, &detail);
			if (why != VCPU_STOP_NONE)
				break;
			if (!pass_gate(vcpu))
				return;
		}
		if (why != VCPU_STOP_NONE)
			break;
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			why = handle_exit(vcpu, &detail);
		} else if (errno == EINTR) {
			count(&vcpu->counters.interrupted);
			if (!must_wait(vcpu))
				take_kick();
		} else if (errno != EAGAIN) {
			why = VCPU_STOP_ERROR;
			detail = (uint64_t)errno;
		}
	}
	stop(vcpu, why, detail);
}

static void *thread_main(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	log_use(vcpu->log);
	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	atomic_store(&vcpu->tid, gettid());
	if (vcpu->ops->enter)
		vcpu->ops->enter(vcpu->owner, vcpu);
	run(vcpu);
	return NULL;
}

/* Let the kick in during KVM_RUN, and only then (§4.21; the kernel's sigset_t is 8 bytes). */
static int set_signal_mask(struct vcpu *vcpu, struct error *err)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t blocked;
	} __attribute__((packed)) mask = {
		.head.len = 8,
		.blocked = ~(1ull << (KICK_SIGNAL - 1)),
	};

	if (ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask) < 0)
		return error_errno(
			err, errno, "KVM cannot set the signal mask of vCPU %u", vcpu->index);
	return 0;
}

int vcpus_start(struct vcpu_group *group, struct error *err)
{
	sigset_t all, old;
	int ret = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 0; i < group->count && ret >= 0; i++) {
		struct vcpu *vcpu = group->vcpus[i];
		int errnum;

		if (vcpu->started)
			continue;
		ret = set_signal_mask(vcpu, err);
		if (ret < 0)
			break;
		vcpu->log = log_used();
		errnum = pthread_create(&vcpu->thread, NULL, thread_main, vcpu);
		if (errnum)
			ret = error_errno(err, errnum, "cannot start the thread of vCPU %u", i);
		else
			vcpu->started = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

void vcpu_set_out(struct vcpu *vcpu, bool out)
{
	struct vcpu_group *group = vcpu->group;

	pthread_mutex_lock(&group->lock);
	atomic_store(&vcpu->out, out);
	pthread_cond_broadcast(&group->resumed);
	pthread_mutex_unlock(&group->lock);
	if (out && vcpu->started)
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpus_resume(struct vcpu_group *group)
{
	pthread_mutex_lock(&group->lock);
	atomic_store(&group->hold, false);
	pthread_cond_broadcast(&group->resumed);
	pthread_mutex_unlock(&group->lock);
}

void vcpu_hold(struct vcpu *vcpu, bool held)
{
	struct vcpu_group *group = vcpu->group;

	pthread_mutex_lock(&group->lock);
	atomic_store(&vcpu->held, held);
	pthread_cond_broadcast(&group->resumed);
	pthread_mutex_unlock(&group->lock);
}

static unsigned started_count(const struct vcpu_group *group)
{
	unsigned n = 0;

	for (unsigned i = 0; i < group->count; i++)
		n += group->vcpus[i]->started;
	return n;
}

void vcpus_pause(struct vcpu_group *group)
{
	unsigned started = started_count(group);

	atomic_store(&group->hold, true);
	for (unsigned i = 0; i < group->count; i++)
		if (group->vcpus[i]->started)
			pthread_kill(group->vcpus[i]->thread, KICK_SIGNAL);
	pthread_mutex_lock(&group->lock);
	while (group->parked_count < started)
		pthread_cond_wait(&group->parked, &group->lock);
	pthread_mutex_unlock(&group->lock);
}

/* Opened when it is first asked for: a VM that nobody asks pays nothing for it at its start. */
static int sched_fd(struct vcpu *vcpu, int tid)
{
	char path[64];

	if (vcpu->sched_fd < 0) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
		vcpu->sched_fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return vcpu->sched_fd;
}

bool vcpu_add_times(struct vcpu *vcpu, struct vcpu_times *times)
{
	int tid = atomic_load(&vcpu->tid);
	int fd = tid ? sched_fd(vcpu, tid) : -1;
	unsigned long long ran, waited;
	char text[96];
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);

	if (!tid)
		return true; /* its thread has not begun: it ran nothing, and waited for nothing that counts */
	if (n <= 0)
		return false;
	text[n] = '\0';
	if (sscanf(text, "%llu %llu", &ran, &waited) != 2)
		return false;
	times->ran_ns += ran;
	times->waited_ns += waited;
	return true;
}

static void vcpu_free(struct vcpu *vcpu)
{
	munmap(vcpu->run, (size_t)vcpu->vm->vcpu_mmap_size);
	cleanup_close(&vcpu->stats_fd);
	cleanup_close(&vcpu->sched_fd);
	close(vcpu->fd);
	free(vcpu);
}

void vcpu_drop_last(struct vcpu_group *group)
{
	struct vcpu *vcpu = group->vcpus[group->count - 1];

	BUG_ON(vcpu->started);
	group->count--;
	vcpu_free(vcpu);
}

void vcpus_destroy(struct vcpu_group *group)
{
	vcpus_pause(group);
	pthread_mutex_lock(&group->lock);
	group->quit = true;
	pthread_cond_broadcast(&group->resumed);
	pthread_mutex_unlock(&group->lock);
	for (unsigned i = 0; i < group->count; i++) {
		struct vcpu *vcpu = group->vcpus[i];

		if (vcpu->started)
			pthread_join(vcpu->thread, NULL);
		vcpu_free(vcpu);
	}
	pthread_mutex_destroy(&group->lock);
	pthread_cond_destroy(&group->resumed);
	pthread_cond_destroy(&group->parked);
	memset(group, 0, sizeof(*group));
}
