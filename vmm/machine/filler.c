/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that comes while the guest runs, and what ends the guest where it cannot: see filler.h. */
#include "vmm/machine/filler.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/machine_private.h"

void machine_set_filler(struct machine *m, struct machine_filler *filler)
{
	BUG_ON(m->filler);
	m->filler = filler;
}

bool machine_memory_filling(struct machine *m, uint64_t *done, uint64_t *total)
{
	return m->filler && m->filler->filling(m->filler, done, total);
}

/* Logged at once: whatever touches such memory next may end the process before the main loop comes to it. */
void machine_fail(struct machine *m, const struct error *why)
{
	log_error("the VM cannot go on: %s", why->text);
	if (atomic_exchange(&m->failing, true))
		return;
	m->failure = *why;
	atomic_store(&m->failed, true);
	machine_request(m, MACHINE_REQUEST_FAIL);
}

int machine_failed(struct machine *m, struct error *err)
{
	if (!atomic_load(&m->failed))
		return 0;
	*err = m->failure;
	return -err->code;
}

int machine_uffd_device(const struct machine *m)
{
	return m->uffd_device;
}
