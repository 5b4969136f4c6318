/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of PCI functions: the whole of configuration space is saved. The bits that a guest may change are taken over from it;
 * all others, ids, capabilities and their places, BAR sizes, number of vectors, must be the same here, for a guest asks
 * for them once and never again. What a guest could not have written by itself cannot come in by a file either.
 */
#include "devices/pci_private.h"

#include <inttypes.h>
#include <linux/pci_regs.h>
#include <string.h>

static const struct state_field fields[] = {
	STATE_BYTES(struct pci_function_state, config),
	STATE_LIST(struct pci_function_state, vectors, vector_count, &msix_vector_table),
};
const struct state_table pci_function_table =
	STATE_TABLE("pci-function", 1, struct pci_function_state, fields);

void pci_function_save(struct pci_function *fn, struct pci_function_state *s)
{
	pthread_mutex_lock(&fn->host->lock);
	memcpy(s->config, fn->config, sizeof(s->config));
	pthread_mutex_unlock(&fn->host->lock);
	s->vector_count = fn->msix ? fn->msix->count : 0;
	if (fn->msix)
		msix_save(fn->msix, s->vectors);
}

int pci_function_check(
	const struct pci_function *fn, const struct pci_function_state *s, struct error *err)
{
	unsigned vectors = fn->msix ? fn->msix->count : 0;

	if (s->vector_count != vectors)
		return error_set(err, ERROR_INCOMPATIBLE,
			"it had %" PRIu32 " interrupt vectors and has %u here", s->vector_count,
			vectors);
	for (unsigned i = 0; i < PCI_CONFIG; i++)
		if ((s->config[i] ^ fn->config[i]) & (uint8_t)~fn->writable[i])
			return error_set(err, ERROR_INCOMPATIBLE,
				"the guest knows it with 0x%02x at 0x%02x of configuration space, "
				"and it has 0x%02x here",
				s->config[i], i, fn->config[i]);
	return 0;
}

void pci_function_load(struct pci_function *fn, const struct pci_function_state *s)
{
	uint16_t control;

	pthread_mutex_lock(&fn->host->lock);
	memcpy(fn->config, s->config, sizeof(fn->config));
	pci_update_bars(fn);
	if (fn->msix) {
		memcpy(&control, fn->config + fn->msix_cap + PCI_MSIX_FLAGS, sizeof(control));
		msix_load(fn->msix, s->vectors, control);
	}
	pthread_mutex_unlock(&fn->host->lock);
}

/* ---- the host ---- */

struct host_state {
	uint64_t window_base, window_size;
};

static const struct state_field host_fields[] = {
	STATE_UINT(struct host_state, window_base),
	STATE_UINT(struct host_state, window_size),
};
static const struct state_table host_table =
	STATE_TABLE("pci-host", 1, struct host_state, host_fields);

void pci_host_save(const struct pci_host *host, struct state_writer *out)
{
	const struct host_state s = {host->window_base, host->window_size};

	state_save(out, &host_table, "", &s);
}

int pci_host_load(const struct pci_host *host, struct state_reader *in, struct error *err)
{
	struct host_state s;
	int ret = state_load(in, &host_table, "", &s, err);

	if (ret < 0)
		return ret;
	if (s.window_base != host->window_base || s.window_size != host->window_size)
		return error_set(err, ERROR_INCOMPATIBLE,
			"the guest's window for PCI devices is 0x%" PRIx64 " bytes at 0x%" PRIx64
			", this version's 0x%" PRIx64 " at 0x%" PRIx64,
			s.window_size, s.window_base, host->window_size, host->window_base);
	return 0;
}
