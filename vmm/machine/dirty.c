/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshots' user of the dirty engine. See dirty.h. */
#include "vmm/machine/dirty.h"

#include "vmm/base/log.h"
#include "vmm/machine/machine_private.h"

int machine_dirty_start(struct machine *m, struct error *err)
{
	int ret;

	if (m->follows_dirty)
		return 0;
	ret = dirty_engine_join(&m->dirty, &m->dirty_user, err);
	if (ret < 0)
		return ret;
	m->follows_dirty = true;
	return 0;
}

int machine_dirty_arm(struct machine *m, struct error *err)
{
	return dirty_engine_arm(&m->dirty, err);
}

int machine_dirty_start_clean(struct machine *m, struct error *err)
{
	int ret = dirty_engine_join_clean(&m->dirty, &m->dirty_user, err);

	m->follows_dirty = ret == 0;
	return ret;
}

void machine_dirty_stop(struct machine *m)
{
	if (!m->follows_dirty)
		return;
	m->follows_dirty = false;
	dirty_engine_leave(&m->dirty, &m->dirty_user);
}

bool machine_dirty_active(struct machine *m)
{
	return m->follows_dirty;
}

void machine_dirty_touch(struct machine *m)
{
	if (m->follows_dirty)
		dirty_engine_touch(&m->dirty, &m->dirty_user);
}

int machine_dirty_collect(struct machine *m, struct page_set *into, struct error *err)
{
	BUG_ON(!m->follows_dirty || (m->powered && !m->pauses));
	return dirty_engine_collect(&m->dirty, &m->dirty_user, into, err);
}

void machine_dirty_commit(struct machine *m)
{
	dirty_engine_commit(&m->dirty, &m->dirty_user);
}

void machine_dirty_rollback(struct machine *m)
{
	dirty_engine_rollback(&m->dirty, &m->dirty_user);
}

struct dirty_engine *machine_dirty_engine(struct machine *m)
{
	return &m->dirty;
}

struct dirty_user *machine_dirty_user(struct machine *m)
{
	return &m->dirty_user;
}
