/* SPDX-License-Identifier: Apache-2.0 */
/* The host's KVM and one virtual machine: see kvm.h. */
#include "vmm/kvm/kvm.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/memory/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>

#define KVM_API 12 /* the only version there will be (§4.1) */

/* What Bulkhead cannot do without, each with the words for the one who lacks it. */
static const struct {
	unsigned cap;
	const char *name;
} required[] = {
	{KVM_CAP_IRQFD, "irqfd"},
	{KVM_CAP_IOEVENTFD, "ioeventfd"},
	{KVM_CAP_IRQ_ROUTING, "interrupt routing"},
	{KVM_CAP_USER_MEMORY, "user memory"},
	{KVM_CAP_SIGNAL_MSI, "MSI"},
	{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
};

int kvm_open(int *out, struct error *err)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0) {
		int errnum = errno;

		error_errno(err, errnum, "cannot open /dev/kvm");
		if (errnum == EACCES || errnum == EPERM)
			return error_hint(err, "add this user to the group 'kvm'");
		return error_hint(err,
			"load kvm_intel or kvm_amd, and see that virtualisation is on in the firmware");
	}
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API)
		return error_set(err, ERROR_INCOMPATIBLE, "/dev/kvm speaks API version %d, not %d",
			version, KVM_API);
	for (unsigned i = 0; i < ARRAY_SIZE(required); i++)
		if (kvm_check(fd, required[i].cap) <= 0)
			return error_set(err, ERROR_INCOMPATIBLE, "this host's KVM has no %s",
				required[i].name);
	*out = steal_fd(&fd);
	return 0;
}

int kvm_check(int kvm_fd, unsigned cap)
{
	int ret = ioctl(kvm_fd, KVM_CHECK_EXTENSION, cap);

	return ret < 0 ? 0 : ret;
}

static int create_vm_fd(int kvm_fd)
{
	int fd;

	/* EINTR: a signal came while the kernel made a thread of its own for us. */
	do
		fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	while (fd < 0 && errno == EINTR);
	return fd;
}

/* The IOAPIC's pins are routed one to one from the start; MSI routes are added as vectors appear. */
static void route_pins(struct vm *vm)
{
	for (unsigned pin = 0; pin < VM_IOAPIC_PINS; pin++) {
		vm->routes[vm->route_count++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin},
		};
		vm->route_used[pin] = true;
	}
}

int vm_create(struct vm *vm, int kvm_fd, struct error *err)
{
	memset(vm, 0, sizeof(*vm));
	vm->table = calloc(1, sizeof(*vm->table) + VM_ROUTES_MAX * sizeof(vm->routes[0]));
	if (!vm->table)
		return error_errno(err, ENOMEM, "cannot create the virtual machine");
	vm->routes = vm->table->entries;
	vm->fd = create_vm_fd(kvm_fd);
	if (vm->fd < 0) {
		int errnum = errno;

		free(steal_ptr(&vm->table));
		return error_errno(err, errnum, "KVM cannot create a virtual machine");
	}
	vm->vcpu_mmap_size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->fast_kicks = kvm_check(kvm_fd, KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
	vm->kvm_fd = kvm_fd;
	pthread_mutex_init(&vm->lock, NULL);
	route_pins(vm);
	return 0;
}

void vm_destroy(struct vm *vm)
{
	if (!vm->table)
		return;
	close(vm->fd);
	free(steal_ptr(&vm->table));
	pthread_mutex_destroy(&vm->lock);
}

/* `size` 0 takes it away. */
static int set_region(struct vm *vm, unsigned number, const struct memory_region *r, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = number,
		.flags = size ? vm->slot_flags : 0,
		.guest_phys_addr = r->gpa,
		.memory_size = size,
		.userspace_addr = (uint64_t)(uintptr_t)r->host,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

static int map_region(
	struct vm *vm, unsigned number, const struct memory_region *r, struct error *err)
{
	int ret = set_region(vm, number, r, r->size);

	return ret < 0 ? error_errno(err, -ret,
				 "KVM cannot map %" PRIu64 " MiB of guest memory at 0x%" PRIx64,
				 r->size >> 20, r->gpa)
		       : 0;
}

int vm_map_memory(struct vm *vm, const struct guest_memory *memory, struct error *err)
{
	uint64_t plugged = atomic_load(&memory->area.present);
	int ret = 0;

	for (unsigned i = 0; i < memory->region_count && ret == 0; i++)
		ret = map_region(vm, i, &memory->regions[i], err);
	for (; plugged && ret == 0; plugged &= plugged - 1)
		ret = vm_map_slot(vm, memory, (unsigned)__builtin_ctzll(plugged), err);
	return ret;
}

int vm_map_slot(struct vm *vm, const struct guest_memory *memory, unsigned slot, struct error *err)
{
	struct memory_region r = guest_memory_slot(memory, slot);

	return map_region(vm, MEMORY_REGIONS_MAX + slot, &r, err);
}

void vm_unmap_slot(struct vm *vm, const struct guest_memory *memory, unsigned slot)
{
	struct memory_region r = guest_memory_slot(memory, slot);

	BUG_ON(set_region(vm, MEMORY_REGIONS_MAX + slot, &r, 0) < 0);
}

unsigned vm_slot_of_piece(const struct guest_memory *memory, unsigned piece)
{
	return piece < memory->region_count ? piece
					    : MEMORY_REGIONS_MAX + piece - memory->region_count;
}

int vm_log_writes(struct vm *vm, const struct guest_memory *memory, bool on, struct error *err)
{
	int ret = 0;

	vm->slot_flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	for (unsigned i = 0; i < guest_memory_piece_count(memory) && ret == 0; i++) {
		struct page_range piece = guest_memory_piece(memory, i);
		struct memory_region r = {piece.gpa, piece.count * GUEST_PAGE_SIZE, piece.host};

		if (guest_memory_piece_present(memory, i))
			ret = set_region(vm, vm_slot_of_piece(memory, i), &r, r.size);
	}
	if (ret == 0)
		return 0;
	error_errno(err, -ret, "KVM cannot %s logging what the guest writes", on ? "begin" : "end");
	if (on) {
		struct error ignored;

		vm_log_writes(vm, memory, false, &ignored);
	}
	return ret;
}

static int ioeventfd(struct vm *vm, uint64_t gpa, unsigned len, int fd, uint32_t flags)
{
	struct kvm_ioeventfd request = {.addr = gpa, .len = len, .fd = fd, .flags = flags};

	return ioctl(vm->fd, KVM_IOEVENTFD, &request) < 0 ? -errno : 0;
}

int vm_ioeventfd_add(struct vm *vm, uint64_t gpa, unsigned len, int fd)
{
	return ioeventfd(vm, gpa, len, fd, 0);
}

int vm_ioeventfd_remove(struct vm *vm, uint64_t gpa, unsigned len, int fd)
{
	return ioeventfd(vm, gpa, len, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static int set_routing(struct vm *vm)
{
	vm->table->nr = vm->route_count;
	return ioctl(vm->fd, KVM_SET_GSI_ROUTING, vm->table) < 0 ? -errno : 0;
}

int vm_route_alloc(struct vm *vm)
{
	int gsi = -ENOSPC;

	pthread_mutex_lock(&vm->lock);
	for (unsigned i = VM_IOAPIC_PINS; i < VM_ROUTES_MAX; i++) {
		if (!vm->route_used[i]) {
			vm->route_used[i] = true;
			gsi = (int)i;
			break;
		}
	}
	pthread_mutex_unlock(&vm->lock);
	return gsi;
}

static struct kvm_irq_routing_entry *find_route(struct vm *vm, unsigned gsi)
{
	for (unsigned i = VM_IOAPIC_PINS; i < vm->route_count; i++)
		if (vm->routes[i].gsi == gsi)
			return &vm->routes[i];
	return NULL;
}

void vm_route_free(struct vm *vm, unsigned gsi)
{
	struct kvm_irq_routing_entry *route;

	pthread_mutex_lock(&vm->lock);
	route = find_route(vm, gsi);
	if (route) {
		*route = vm->routes[--vm->route_count];
		set_routing(vm);
	}
	vm->route_used[gsi] = false;
	pthread_mutex_unlock(&vm->lock);
}

int vm_route_msi(struct vm *vm, unsigned gsi, uint64_t address, uint32_t data)
{
	struct kvm_irq_routing_entry *route;
	int ret;

	pthread_mutex_lock(&vm->lock);
	route = find_route(vm, gsi);
	if (!route) {
		BUG_ON(vm->route_count == VM_ROUTES_MAX);
		route = &vm->routes[vm->route_count++];
	}
	*route = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = (uint32_t)address,
			.address_hi = (uint32_t)(address >> 32),
			.data = data},
	};
	ret = set_routing(vm);
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

static int irqfd(struct vm *vm, unsigned gsi, int fd, uint32_t flags)
{
	struct kvm_irqfd request = {.fd = (uint32_t)fd, .gsi = gsi, .flags = flags};

	return ioctl(vm->fd, KVM_IRQFD, &request) < 0 ? -errno : 0;
}

int vm_irqfd_add(struct vm *vm, unsigned gsi, int fd)
{
	return irqfd(vm, gsi, fd, 0);
}

int vm_irqfd_remove(struct vm *vm, unsigned gsi, int fd)
{
	return irqfd(vm, gsi, fd, KVM_IRQFD_FLAG_DEASSIGN);
}
