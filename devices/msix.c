/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X vectors on irqfds. See msix.h.
 *
 * A vector is live when MSI-X is enabled, neither it nor the function is masked, and its eventfd is
 * an irqfd with the route that the entry says. msix_raise() tests `live` and writes; if the guest
 * masks the vector at that very moment the interrupt is delivered as if it had been raised before,
 * which the PCI specification allows. In the other direction nothing is lost: raise sets `pending`
 * first when it saw the vector dead, and then looks again; unmask sets `live` first and then takes
 * `pending`.
 */
#include "devices/msix.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ENTRY_SIZE     16
#define ENTRY_CONTROL  3
#define CONTROL_MASKED 1u
#define CAP_ENABLE     0x8000u
#define CAP_MASK_ALL   0x4000u

int msix_init(struct msix *msix, unsigned count, struct error *err)
{
	BUG_ON(!count || count > MSIX_VECTORS_MAX);
	memset(msix, 0, sizeof(*msix));
	msix->vectors = calloc(count, sizeof(*msix->vectors));
	if (!msix->vectors)
		return error_errno(err, ENOMEM, "cannot make %u interrupt vectors", count);
	msix->count = count;
	for (unsigned i = 0; i < count; i++) {
		msix->vectors[i].gsi = msix->vectors[i].fd = -1;
		msix->vectors[i].entry[ENTRY_CONTROL] = CONTROL_MASKED;
	}
	pthread_mutex_init(&msix->lock, NULL);
	return 0;
}

void msix_destroy(struct msix *msix)
{
	msix_reset(msix);
	for (unsigned i = 0; i < msix->count; i++)
		if (msix->vectors[i].fd >= 0)
			close(msix->vectors[i].fd);
	free(steal_ptr(&msix->vectors));
	pthread_mutex_destroy(&msix->lock);
}

static void signal_vector(struct msix_vector *v)
{
	uint64_t one = 1;
	ssize_t ignored = write(v->fd, &one, sizeof(one));

	(void)ignored; /* EAGAIN: 2^64-2 interrupts are pending already */
}

static bool ensure_fd(struct msix_vector *v)
{
	if (v->fd < 0)
		v->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return v->fd >= 0;
}

/* Route and connect; on failure the vector stays dead and its interrupts stay pending. */
static bool connect(struct msix *msix, struct msix_vector *v)
{
	uint64_t address = v->entry[0] | (uint64_t)v->entry[1] << 32;

	if (!msix->vm || !ensure_fd(v))
		return false;
	if (v->gsi < 0)
		v->gsi = vm_route_alloc(msix->vm);
	if (v->gsi < 0 || vm_route_msi(msix->vm, (unsigned)v->gsi, address, v->entry[2]) < 0) {
		log_guest("no interrupt route for an MSI-X vector to 0x%llx",
			(unsigned long long)address);
		return false;
	}
	if (!v->connected && vm_irqfd_add(msix->vm, (unsigned)v->gsi, v->fd) < 0) {
		log_guest("no irqfd for an MSI-X vector");
		return false;
	}
	v->connected = true;
	return true;
}

static void disconnect(struct msix *msix, struct msix_vector *v)
{
	if (v->connected)
		vm_irqfd_remove(msix->vm, (unsigned)v->gsi, v->fd);
	v->connected = false;
}

/* Bring one vector in line with the masks above it. Under the lock. */
static void update(struct msix *msix, struct msix_vector *v)
{
	bool wanted = msix->enabled && !msix->function_masked &&
		      !(v->entry[ENTRY_CONTROL] & CONTROL_MASKED);

	if (!wanted) {
		atomic_store(&v->live, false);
		/* Off the irqfd too, so that a kernel back end (vhost) is masked as well: what it signals
		 * meanwhile waits in the eventfd, and KVM delivers it when the irqfd is added again. */
		disconnect(msix, v);
		return;
	}
	if (!connect(msix, v))
		return;
	atomic_store(&v->live, true);
	if (atomic_exchange(&v->pending, false))
		signal_vector(v);
}

void msix_set_vm(struct msix *msix, struct vm *vm)
{
	pthread_mutex_lock(&msix->lock);
	BUG_ON(msix->vm && vm);
	msix->vm = vm;
	pthread_mutex_unlock(&msix->lock);
}

void msix_control(struct msix *msix, uint16_t control)
{
	bool enabled = control & CAP_ENABLE, masked = control & CAP_MASK_ALL;

	pthread_mutex_lock(&msix->lock);
	if (enabled != msix->enabled || masked != msix->function_masked) {
		msix->enabled = enabled;
		msix->function_masked = masked;
		for (unsigned i = 0; i < msix->count; i++)
			update(msix, &msix->vectors[i]);
	}
	pthread_mutex_unlock(&msix->lock);
}

/* Only aligned 4- and 8-byte accesses are defined (§6.8.2). */
static bool valid_access(const struct msix *msix, uint64_t offset, unsigned size)
{
	return (size == 4 || size == 8) && offset % size == 0 && offset / ENTRY_SIZE < msix->count;
}

uint64_t msix_table_read(struct msix *msix, uint64_t offset, unsigned size)
{
	const uint32_t *entry;
	uint64_t value;

	if (!valid_access(msix, offset, size))
		return 0;
	pthread_mutex_lock(&msix->lock);
	entry = msix->vectors[offset / ENTRY_SIZE].entry;
	value = entry[offset % ENTRY_SIZE / 4];
	if (size == 8)
		value |= (uint64_t)entry[offset % ENTRY_SIZE / 4 + 1] << 32;
	pthread_mutex_unlock(&msix->lock);
	return value;
}

void msix_table_write(struct msix *msix, uint64_t offset, unsigned size, uint64_t value)
{
	struct msix_vector *v;
	unsigned word;

	if (!valid_access(msix, offset, size))
		return;
	pthread_mutex_lock(&msix->lock);
	v = &msix->vectors[offset / ENTRY_SIZE];
	word = (unsigned)(offset % ENTRY_SIZE / 4);
	v->entry[word] = (uint32_t)value;
	if (size == 8)
		v->entry[word + 1] = (uint32_t)(value >> 32);
	/* Software masks a vector before it changes the message, so only control needs acting on; a
	 * live vector whose message changes anyway is followed at once. */
	if (word + size / 4 > ENTRY_CONTROL || atomic_load(&v->live))
		update(msix, v);
	pthread_mutex_unlock(&msix->lock);
}

uint64_t msix_pba_read(struct msix *msix, uint64_t offset, unsigned size)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < size * 8; i++) {
		uint64_t vector = offset * 8 + i;

		if (vector < msix->count && atomic_load(&msix->vectors[vector].pending))
			bits |= 1ull << i;
	}
	return bits;
}

void msix_raise(struct msix *msix, unsigned vector)
{
	struct msix_vector *v;

	if (vector >= msix->count)
		return;
	v = &msix->vectors[vector];
	if (atomic_load(&v->live)) {
		signal_vector(v);
		return;
	}
	atomic_store(&v->pending, true);
	if (atomic_load(&v->live) && atomic_exchange(&v->pending, false))
		signal_vector(v);
}

int msix_vector_fd(struct msix *msix, unsigned vector)
{
	int fd = -1;

	if (vector >= msix->count)
		return -1;
	pthread_mutex_lock(&msix->lock);
	if (ensure_fd(&msix->vectors[vector]))
		fd = msix->vectors[vector].fd;
	pthread_mutex_unlock(&msix->lock);
	return fd;
}

void msix_reset(struct msix *msix)
{
	pthread_mutex_lock(&msix->lock);
	msix->enabled = msix->function_masked = false;
	for (unsigned i = 0; i < msix->count; i++) {
		struct msix_vector *v = &msix->vectors[i];

		atomic_store(&v->live, false);
		atomic_store(&v->pending, false);
		disconnect(msix, v);
		if (v->gsi >= 0)
			vm_route_free(msix->vm, (unsigned)v->gsi);
		v->gsi = -1;
		memset(v->entry, 0, sizeof(v->entry));
		v->entry[ENTRY_CONTROL] = CONTROL_MASKED;
	}
	pthread_mutex_unlock(&msix->lock);
}

/* ---- state ---- */

static const struct state_field vector_fields[] = {
	STATE_UINTS(struct msix_vector_state, entry),
	STATE_BOOL(struct msix_vector_state, pending),
};
const struct state_table msix_vector_table =
	STATE_TABLE("vector", 1, struct msix_vector_state, vector_fields);

void msix_save(struct msix *msix, struct msix_vector_state *vectors)
{
	pthread_mutex_lock(&msix->lock);
	for (unsigned i = 0; i < msix->count; i++) {
		struct msix_vector *v = &msix->vectors[i];
		uint64_t count;

		/* What a kernel back end has signalled while the vector is masked waits in the eventfd. */
		if (!v->connected && v->fd >= 0 && read(v->fd, &count, sizeof(count)) > 0)
			atomic_store(&v->pending, true);
		memcpy(vectors[i].entry, v->entry, sizeof(v->entry));
		vectors[i].pending = atomic_load(&v->pending);
	}
	pthread_mutex_unlock(&msix->lock);
}

void msix_load(struct msix *msix, const struct msix_vector_state *vectors, uint16_t control)
{
	pthread_mutex_lock(&msix->lock);
	msix->enabled = control & CAP_ENABLE;
	msix->function_masked = control & CAP_MASK_ALL;
	for (unsigned i = 0; i < msix->count; i++) {
		struct msix_vector *v = &msix->vectors[i];

		memcpy(v->entry, vectors[i].entry, sizeof(v->entry));
		update(msix, v);
		atomic_store(&v->pending, vectors[i].pending);
	}
	pthread_mutex_unlock(&msix->lock);
}

void msix_deliver(struct msix *msix)
{
	pthread_mutex_lock(&msix->lock);
	for (unsigned i = 0; i < msix->count; i++) {
		struct msix_vector *v = &msix->vectors[i];

		if (atomic_load(&v->live) && atomic_exchange(&v->pending, false))
			signal_vector(v);
	}
	pthread_mutex_unlock(&msix->lock);
}
