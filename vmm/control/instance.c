/* SPDX-License-Identifier: Apache-2.0 */
/* One VM's parts, made and let go of in order. See instance.h. */
#include "vmm/control/instance.h"

#include "vmm/base/util.h"
#include "vmm/gdb/gdb.h"

/* Last of all parts: who can connect finds everything else there. */
static int open_control(struct instance *instance, const struct machine_config *config, int client,
	struct error *err)
{
	_cleanup_close_ int fd = client;
	int ret;

	if (!config->control && config->control_fd < 0 && fd < 0)
		return 0;
	ret = control_create(instance->machine, config->control, &instance->control, err);
	if (ret == 0 && fd >= 0)
		control_admit(instance->control, steal_fd(&fd));
	return ret;
}

/* The machine's loop, and all that lives on it, go before the machine; the debugger's sockets close after its last round. */
static void let_go(struct instance *instance)
{
	control_destroy(instance->control);
	gdb_leave(instance->gdb);
	machine_destroy(instance->machine);
	gdb_destroy(instance->gdb);
	*instance = (struct instance){0};
}

int instance_create(struct instance *instance, struct machine_config *config,
	struct restore *restore, int client, struct error *err)
{
	_cleanup_close_ int fd = client;
	int ret;

	*instance = (struct instance){0};
	ret = machine_create(config, &instance->machine, err);
	if (!ret && restore)
		ret = restore_into(restore, instance->machine, err);
	if (!ret && config->metrics_file)
		ret = metrics_file_start(
			&instance->metrics, instance->machine, config->metrics_file, err);
	if (!ret && config->gdb == GDB_UNIX)
		ret = gdb_create(instance->machine, config->gdb_path, &instance->gdb, err);
	if (!ret)
		ret = open_control(instance, config, steal_fd(&fd), err);
	if (!ret && restore && instance->control)
		control_continue(instance->control, restore);
	if (ret)
		let_go(instance);
	return ret;
}

int instance_run(struct instance *instance, enum machine_exit *how, struct error *err)
{
	return machine_run(instance->machine, how, err);
}

void instance_destroy(struct instance *instance)
{
	if (!instance->machine)
		return;
	metrics_file_finish(&instance->metrics);
	let_go(instance);
}
