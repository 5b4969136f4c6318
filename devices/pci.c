/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI host: configuration space through ECAM, BAR decoding. See pci.h.
 *
 * Every byte of configuration space has a mask of the bits that the guest may change; a write is
 * applied through the mask and then, where it touched the command register, a BAR or MSI-X control,
 * acted on. Sizing a BAR needs no special case: its low bits are simply not writable.
 */
#include "devices/pci_private.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#define ECAM_FUNCTION_SHIFT 12
#define HEADER_END	    0x40

static uint32_t get32(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static void put16(uint8_t *p, uint16_t value)
{
	memcpy(p, &value, sizeof(value));
}

static void put32(uint8_t *p, uint32_t value)
{
	memcpy(p, &value, sizeof(value));
}

void pci_host_init(struct pci_host *host, uint64_t window_base, uint64_t window_size)
{
	memset(host, 0, sizeof(*host));
	pthread_mutex_init(&host->lock, NULL);
	host->window_base = window_base;
	host->window_size = window_size;
}

void pci_host_destroy(struct pci_host *host)
{
	pthread_mutex_destroy(&host->lock);
}

/* ---- describing a function ---- */

void pci_function_init(
	struct pci_function *fn, const struct pci_function_ops *ops, const struct pci_ids *ids)
{
	uint8_t *c = fn->config;

	memset(fn, 0, sizeof(*fn));
	fn->ops = ops;
	put16(c + PCI_VENDOR_ID, ids->vendor);
	put16(c + PCI_DEVICE_ID, ids->device);
	c[PCI_CLASS_REVISION] = ids->revision;
	c[PCI_CLASS_PROG] = (uint8_t)ids->class_code;
	put16(c + PCI_CLASS_DEVICE, (uint16_t)(ids->class_code >> 8));
	put16(c + PCI_SUBSYSTEM_VENDOR_ID, ids->subsystem_vendor);
	put16(c + PCI_SUBSYSTEM_ID, ids->subsystem);
	put16(fn->writable + PCI_COMMAND,
		PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	fn->writable[PCI_INTERRUPT_LINE] = 0xff;
	fn->next_cap = HEADER_END;
	fn->last_cap = PCI_CAPABILITY_LIST;
	for (unsigned i = 0; i < PCI_BARS; i++)
		atomic_init(&fn->bar_gpa[i], PCI_BAR_NONE);
}

unsigned pci_add_capability(struct pci_function *fn, uint8_t id, const void *body, unsigned len)
{
	unsigned at = fn->next_cap;

	BUG_ON(len < 2 || at + len > PCI_CONFIG);
	memcpy(fn->config + at, body, len);
	fn->config[at] = id;
	fn->config[at + 1] = 0;
	fn->config[fn->last_cap] = (uint8_t)at;
	fn->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	fn->last_cap = (uint8_t)(at + 1);
	fn->next_cap = (uint8_t)align_up(at + len, 4);
	return at;
}

void pci_add_bar(struct pci_function *fn, unsigned bar, uint32_t size)
{
	BUG_ON(bar >= PCI_BARS || size < 16 || (size & (size - 1)));
	fn->bar_size[bar] = size;
	put32(fn->writable + PCI_BASE_ADDRESS_0 + 4 * bar, ~(size - 1));
}

void pci_add_msix(struct pci_function *fn, struct msix *msix, unsigned bar, uint32_t table_offset,
	uint32_t pba_offset)
{
	uint8_t body[PCI_CAP_MSIX_SIZEOF] = {0};
	unsigned at;

	put16(body + PCI_MSIX_FLAGS, (uint16_t)(msix->count - 1));
	put32(body + PCI_MSIX_TABLE, table_offset | bar);
	put32(body + PCI_MSIX_PBA, pba_offset | bar);
	at = pci_add_capability(fn, PCI_CAP_ID_MSIX, body, sizeof(body));
	put16(fn->writable + at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	fn->msix = msix;
	fn->msix_cap = (uint8_t)at;
}

/* ---- slots and addresses ---- */

static uint64_t largest_bar(const struct pci_function *fn)
{
	uint64_t size = 0;

	for (unsigned i = 0; i < PCI_BARS; i++)
		size = max_u64(size, fn->bar_size[i]);
	return size;
}

/* Each slot owns an equal part of the window's first half for power-on addresses; a guest that
 * prefers others (hot-plug: an operating system assigns what the firmware did not) finds the rest free. */
static uint64_t slot_window(const struct pci_host *host, unsigned slot)
{
	return host->window_base + host->window_size / 2 / PCI_SLOTS * slot;
}

static void assign_bars(struct pci_function *fn)
{
	uint64_t at = slot_window(fn->host, fn->slot);

	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (!fn->bar_size[i])
			continue;
		at = align_up(at, fn->bar_size[i]);
		put32(fn->config + PCI_BASE_ADDRESS_0 + 4 * i, (uint32_t)at);
		at += fn->bar_size[i];
	}
}

void pci_update_bars(struct pci_function *fn)
{
	bool decode = fn->config[PCI_COMMAND] & PCI_COMMAND_MEMORY;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t base = get32(fn->config + PCI_BASE_ADDRESS_0 + 4 * i);
		uint64_t gpa = PCI_BAR_NONE;

		if (!fn->bar_size[i])
			continue;
		if (decode && base >= fn->host->window_base &&
			base - fn->host->window_base + fn->bar_size[i] <= fn->host->window_size)
			gpa = base;
		if (atomic_load(&fn->bar_gpa[i]) == gpa)
			continue;
		atomic_store(&fn->bar_gpa[i], gpa);
		if (fn->ops->bar_moved)
			fn->ops->bar_moved(fn, i, gpa);
	}
}

int pci_host_plug(struct pci_host *host, struct pci_function *fn, int slot, struct error *err)
{
	BUG_ON(fn->host || largest_bar(fn) > host->window_size / 2 / PCI_SLOTS);
	for (int i = 0; slot < 0 && i < PCI_SLOTS; i++)
		if (!atomic_load(&host->slots[i]))
			slot = i;
	if (slot < 0 || slot >= PCI_SLOTS || atomic_load(&host->slots[slot]))
		return error_set(err, ERROR_NO_RESOURCE,
			"no free PCI slot: a VM holds at most %d devices", PCI_SLOTS - 1);
	fn->host = host;
	fn->slot = (unsigned)slot;
	assign_bars(fn);
	atomic_store(&host->slots[slot], fn);
	return 0;
}

void pci_host_unplug(struct pci_host *host, struct pci_function *fn)
{
	BUG_ON(fn->host != host);
	pthread_mutex_lock(&host->lock);
	put16(fn->config + PCI_COMMAND, 0);
	pci_update_bars(fn);
	atomic_store(&host->slots[fn->slot], NULL);
	fn->host = NULL;
	pthread_mutex_unlock(&host->lock);
}

void pci_function_reset(struct pci_function *fn)
{
	pthread_mutex_lock(&fn->host->lock);
	put16(fn->config + PCI_COMMAND, 0);
	pci_update_bars(fn);
	assign_bars(fn);
	fn->config[PCI_INTERRUPT_LINE] = 0;
	if (fn->msix) {
		put16(fn->config + fn->msix_cap + PCI_MSIX_FLAGS, (uint16_t)(fn->msix->count - 1));
		msix_reset(fn->msix);
	}
	pthread_mutex_unlock(&fn->host->lock);
}

/* ---- configuration accesses ---- */

/* ECAM address: bus in bits 27:20 (ours is 0, the range holds no other), slot 19:15, function 14:12. */
static struct pci_function *decode_ecam(
	struct pci_host *host, uint64_t offset, unsigned size, unsigned *at)
{
	unsigned devfn = (unsigned)(offset >> ECAM_FUNCTION_SHIFT) & 0xff;

	*at = offset & ((1u << ECAM_FUNCTION_SHIFT) - 1);
	if (size > 4 || *at % size || devfn & 7)
		return NULL;
	return atomic_load(&host->slots[devfn >> 3]);
}

static uint64_t ecam_read(void *device, uint64_t offset, unsigned size)
{
	struct pci_host *host = device;
	unsigned at;
	struct pci_function *fn = decode_ecam(host, offset, size, &at);
	uint32_t value = 0;

	if (!fn)
		return UINT64_MAX;
	if (at >= PCI_CONFIG)
		return 0; /* extended space: no capability there */
	pthread_mutex_lock(&host->lock);
	memcpy(&value, fn->config + at, size);
	if (fn->ops->config_read)
		value = fn->ops->config_read(fn, at, size, value);
	pthread_mutex_unlock(&host->lock);
	return value;
}

static bool touches(unsigned at, unsigned size, unsigned first, unsigned len)
{
	return at < first + len && at + size > first;
}

static void config_written(struct pci_function *fn, unsigned at, unsigned size)
{
	if (touches(at, size, PCI_COMMAND, 2) ||
		touches(at, size, PCI_BASE_ADDRESS_0, 4 * PCI_BARS))
		pci_update_bars(fn);
	if (fn->msix && touches(at, size, fn->msix_cap + PCI_MSIX_FLAGS, 2)) {
		uint16_t control;

		memcpy(&control, fn->config + fn->msix_cap + PCI_MSIX_FLAGS, sizeof(control));
		msix_control(fn->msix, control);
	}
	if (fn->ops->config_written)
		fn->ops->config_written(fn, at, size);
}

static void ecam_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_host *host = device;
	unsigned at;
	struct pci_function *fn = decode_ecam(host, offset, size, &at);

	if (!fn || at >= PCI_CONFIG)
		return;
	pthread_mutex_lock(&host->lock);
	for (unsigned i = 0; i < size; i++) {
		uint8_t mask = fn->writable[at + i], byte = (uint8_t)(value >> 8 * i);

		fn->config[at + i] = (uint8_t)((fn->config[at + i] & ~mask) | (byte & mask));
	}
	config_written(fn, at, size);
	pthread_mutex_unlock(&host->lock);
}

const struct bus_ops pci_ecam_ops = {.read = ecam_read, .write = ecam_write};

/* ---- BAR accesses: no lock ---- */

static struct pci_function *decode_bar(
	struct pci_host *host, uint64_t gpa, unsigned size, unsigned *bar, uint64_t *offset)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_function *fn =
			atomic_load_explicit(&host->slots[slot], memory_order_acquire);

		for (unsigned i = 0; fn && i < PCI_BARS; i++) {
			uint64_t base = atomic_load_explicit(&fn->bar_gpa[i], memory_order_relaxed);

			if (base == PCI_BAR_NONE || gpa < base ||
				gpa - base + size > fn->bar_size[i])
				continue;
			*bar = i;
			*offset = gpa - base;
			return fn;
		}
	}
	return NULL;
}

static uint64_t window_read(void *device, uint64_t offset, unsigned size)
{
	struct pci_host *host = device;
	unsigned bar;
	struct pci_function *fn = decode_bar(host, host->window_base + offset, size, &bar, &offset);

	return fn ? fn->ops->bar_read(fn, bar, offset, size) : UINT64_MAX;
}

static void window_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_host *host = device;
	unsigned bar;
	struct pci_function *fn = decode_bar(host, host->window_base + offset, size, &bar, &offset);

	if (fn)
		fn->ops->bar_write(fn, bar, offset, size, value);
}

const struct bus_ops pci_window_ops = {.read = window_read, .write = window_write};
