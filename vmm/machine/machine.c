/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's life cycle. See machine.h.
 *
 *            create          power_on             request / vCPU stopped
 *   (nothing) ---> (off) ------------> running ---------------------------> ending
 *                    ^                                                        |
 *                    |  reset: pause vCPUs, reset devices (asynchronously:    |
 *                    +--- I/O in flight is awaited), power_off, power_on <----+
 *                                                          any other request: the loop ends
 *
 * Whoever wants the machine to change (a vCPU that stopped, a register that the guest wrote, a
 * signal, the console's escape) posts a request; the main loop acts on the strongest one. So no vCPU
 * thread ever waits for itself to be stopped.
 */
#include "vmm/machine/machine.h"

#include "vmm/arch/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/machine/dirty.h"
#include "vmm/machine/machine_private.h"
#include "vmm/machine/plug.h"
#include "vmm/machine/sandbox.h"
#include "vmm/memory/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

/* ---- requests ---- */

void machine_request(struct machine *m, enum machine_request request)
{
	int old = atomic_load(&m->request);

	while (old < (int)request && !atomic_compare_exchange_weak(&m->request, &old, (int)request))
		;
	if (!atomic_exchange(&m->request_posted, true))
		loop_post(m->loop, &m->request_job);
}

static void guest_power_off(void *owner)
{
	machine_request(owner, MACHINE_REQUEST_POWEROFF);
}

static void guest_reset(void *owner)
{
	machine_request(owner, MACHINE_REQUEST_RESET);
}

static void cpus_changed(void *owner)
{
	struct machine *m = owner;

	hotplug_post(&m->cpus);
}

static void memory_changed(void *owner)
{
	struct machine *m = owner;

	hotplug_post(&m->plugged);
}

static void console_quit(void *owner)
{
	machine_request(owner, MACHINE_REQUEST_STOP);
}

/* ---- vCPU exits ---- */

static void mmio_read(void *owner, uint64_t gpa, uint8_t *data, unsigned len)
{
	struct machine *m = owner;

	bus_read(&m->mmio, gpa, data, len);
}

static void mmio_write(void *owner, uint64_t gpa, const uint8_t *data, unsigned len)
{
	struct machine *m = owner;

	bus_write(&m->mmio, gpa, data, len);
}

static void port_read(void *owner, uint16_t port, uint8_t *data, unsigned len)
{
	struct machine *m = owner;

	bus_read(&m->ports, port, data, len);
}

static void port_write(void *owner, uint16_t port, const uint8_t *data, unsigned len)
{
	struct machine *m = owner;

	bus_write(&m->ports, port, data, len);
}

static void vcpu_stopped(void *owner, struct vcpu *vcpu, enum vcpu_stop why, uint64_t detail)
{
	struct machine *m = owner;

	switch (why) {
	case VCPU_STOP_SHUTDOWN:
		/* Before its first driver starts, a guest may not have touched what arch looks at. */
		if (arch_shutdown_was_orderly(vcpu) && machine_devices_were_driven(&m->devices)) {
			machine_request(m, MACHINE_REQUEST_RESET);
			return;
		}
		log_error("the guest crashed: triple fault on vCPU %u", vcpu->index);
		break;
	case VCPU_STOP_INTERNAL_ERROR:
		log_error(
			"the guest crashed: KVM cannot go on with vCPU %u (internal error %" PRIu64
			")",
			vcpu->index, detail);
		break;
	case VCPU_STOP_ENTRY_FAILED:
		log_error(
			"the guest crashed: the processor refuses to enter vCPU %u (reason 0x%" PRIx64
			")",
			vcpu->index, detail);
		break;
	case VCPU_STOP_SYSTEM_EVENT:
		log_error("the guest crashed: system event %" PRIu64 " on vCPU %u", detail,
			vcpu->index);
		break;
	default:
		log_error("vCPU %u cannot run: %s", vcpu->index,
			strerrordesc_np((int)detail) ?: "unknown error");
		break;
	}
	machine_request(m, MACHINE_REQUEST_CRASH);
}

static void vcpu_debug(void *owner, struct vcpu *vcpu)
{
	(void)vcpu;
	machine_vcpu_trapped(owner);
}

static void enter_vcpu(void *owner, struct vcpu *vcpu)
{
	struct machine *m = owner;
	struct error err;

	(void)vcpu;
	BUG_ON(sandbox_enter(SANDBOX_VCPU, m->config->seccomp, &err) <
		0); /* the main thread's worked */
}

static const struct vcpu_ops vcpu_ops = {
	.mmio_read = mmio_read,
	.mmio_write = mmio_write,
	.port_read = port_read,
	.port_write = port_write,
	.stopped = vcpu_stopped,
	.debug = vcpu_debug,
	.enter = enter_vcpu,
};

/* ---- power on and off ---- */

int machine_add_vcpu(struct machine *m, struct error *err)
{
	int ret = vcpu_add(&m->vcpus, &vcpu_ops, m, err);

	if (ret < 0)
		return ret;
	ret = arch_vcpu_init(m->vcpus.vcpus[m->vcpus.count - 1], m->cpu_model, err);
	if (ret < 0)
		vcpu_drop_last(&m->vcpus);
	else if (m->debugger)
		m->debugger->vcpu_added(m->debugger, m->vcpus.vcpus[m->vcpus.count - 1]);
	return ret;
}

static int add_vcpus(struct machine *m, struct error *err)
{
	int ret = 0;

	for (unsigned i = 0; i < m->config->cpus && ret == 0; i++)
		ret = machine_add_vcpu(m, err);
	return ret;
}

static int load_guest(struct machine *m, struct error *err)
{
	const struct arch_boot_config boot = {
		.kernel = m->config->kernel,
		.initrd = m->config->initrd,
		.cmdline = m->cmdline,
		.cpus = m->config->cpus,
		.cpus_max = m->config->cpus_max,
		.plugs_cpus = m->cpus.kind,
		.fresh = !m->ran,
	};
	struct arch_boot_entry entry;
	int ret = arch_boot_load(&boot, &m->memory, &entry, err);

	if (ret == 0)
		ret = arch_platform_place(m->platform, err);
	if (ret == 0)
		ret = arch_vcpu_set_entry(m->vcpus.vcpus[0], &entry, err);
	return ret;
}

static void power_off(struct machine *m)
{
	if (!m->powered)
		return;
	hotplug_end(&m->cpus);
	hotplug_end(&m->plugged);
	machine_pause_ends(m);
	m->guest = (struct machine_guest){0};
	vcpus_destroy(&m->vcpus);
	machine_devices_set_vm(&m->devices, NULL);
	arch_platform_disconnect(m->platform, &m->vm);
	dirty_engine_detach(&m->dirty);
	vm_destroy(&m->vm);
	m->powered = false;
}

static uint64_t low_bits(unsigned count)
{
	return count < 64 ? (1ull << count) - 1 : UINT64_MAX;
}

static void run_guest(struct machine *m)
{
	machine_wake_devices(m);
	vcpus_resume(&m->vcpus);
}

/*
 * Before all else that a VM has: the interrupt controllers leave a grace period of KVM's behind (SRCU), for which each change of a memory
 * slot then waits, 4 ms in Linux 6.18. To track what is written is such a change.
 */
static int map_memory(struct machine *m, struct error *err)
{
	int ret = vm_map_memory(&m->vm, &m->memory, err);

	if (ret < 0)
		return ret;
	dirty_engine_attach(&m->dirty, &m->vm);
	if (m->state && m->track && machine_dirty_start_clean(m, err) < 0)
		log_info("the next snapshot cannot be an incremental one: %s", err->text);
	return 0;
}

static int power_on(struct machine *m, struct error *err)
{
	int ret = vm_create(&m->vm, m->kvm_fd, err);

	if (ret < 0)
		return ret;
	m->powered = true;
	vcpu_group_init(&m->vcpus, &m->vm);
	machine_devices_set_vm(&m->devices, &m->vm);
	ret = map_memory(m, err);
	if (ret == 0)
		ret = arch_vm_init(&m->vm, err);
	if (ret == 0)
		ret = arch_platform_connect(m->platform, &m->vm, err);
	if (ret == 0)
		ret = add_vcpus(m, err);
	hotplug_begin(&m->cpus, low_bits(m->config->cpus));
	hotplug_begin(&m->plugged, m->memory.area.present);
	if (ret == 0)
		ret = m->state ? machine_load(m, err) : load_guest(m, err);
	if (ret == 0)
		ret = vcpus_start(&m->vcpus, err);
	if (ret < 0)
		power_off(m);
	else if (!m->pauses)
		run_guest(m);
	else
		machine_pause_begins(m);
	m->ran = true;
	return ret;
}

/* ---- the main loop's side of requests ---- */

static void devices_reset(void *owner)
{
	struct machine *m = owner;
	struct error why;

	power_off(m);
	if (!m->ended)
		plugs_reset(m);
	m->resetting = false;
	if (m->ended)
		return; /* the loop turns once more for the devices' end, but no guest runs any more */
	/* What the guest asked for while it was being reset, it no longer wants; an end stays an end. */
	if (atomic_load(&m->request) <= MACHINE_REQUEST_RESET)
		atomic_store(&m->request, MACHINE_REQUEST_NONE);
	machine_resume(m);
	if (power_on(m, &why) < 0) {
		machine_fail(m, &why); /* the next state is the end */
		return;
	}
	log_info("the guest was reset");
	machine_tell_state(m);
}

static void act(struct loop_job *job)
{
	struct machine *m = container_of(job, struct machine, request_job);
	enum machine_request request;

	atomic_store(&m->request_posted, false);
	if (m->ended)
		return; /* it was told how, and that stays */
	request = (enum machine_request)atomic_load(&m->request);
	switch (request) {
	case MACHINE_REQUEST_NONE:
		return;
	case MACHINE_REQUEST_RESET:
		if (m->resetting || m->plugs.draining || m->hold)
			return; /* what is drained, or held, asks again */
		m->resetting = true;
		machine_tell_state(m);
		machine_pause(m);
		machine_devices_reset(&m->devices, devices_reset, m);
		return;
	case MACHINE_REQUEST_POWEROFF:
		m->how = MACHINE_EXIT_POWEROFF;
		break;
	case MACHINE_REQUEST_CRASH:
		if (m->debugger && m->debugger->crashed(m->debugger))
			return;
		m->how = MACHINE_EXIT_CRASH;
		break;
	case MACHINE_REQUEST_STOP:
		m->how = MACHINE_EXIT_STOPPED;
		break;
	case MACHINE_REQUEST_FAIL:
		m->how = MACHINE_EXIT_FAILED;
		break;
	}
	m->ended = true;
	hotplug_end(&m->cpus);
	hotplug_end(&m->plugged);
	machine_plugs_release(m);
	machine_tell_state(m);
	loop_stop(m->loop);
}

/* ---- making and ending ---- */

static int make_memory(struct machine *m, struct error *err)
{
	struct guest_memory_config layout = {0};
	int ret;

	layout.pages = m->config->hugepages;
	layout.prealloc = m->config->prealloc;
	ret = arch_memory_layout(m->config->memory, m->config->memory_max, &layout, err);
	return ret < 0 ? ret : guest_memory_create(&layout, &m->memory, err);
}

static int make_console(struct machine *m, struct error *err)
{
	const struct console_wiring wiring = {
		.loop = m->loop,
		.serial = arch_platform_serial(m->platform),
		.quit = console_quit,
		.owner = m,
	};

	switch (m->config->console) {
	case CONSOLE_STDIO:
		return console_stdio_create(&m->console, &wiring, err);
	case CONSOLE_FILE:
		return console_file_create(&m->console, &wiring, m->config->console_path, err);
	case CONSOLE_SOCKET:
		return console_socket_create(&m->console, &wiring, m->config->console_path, err);
	case CONSOLE_OFF:
		break;
	}
	return 0;
}

static int make_platform(struct machine *m, struct error *err)
{
	const struct arch_platform_config config = {
		.memory = &m->memory,
		.power_off = guest_power_off,
		.reset = guest_reset,
		.cpus_changed = cpus_changed,
		.memory_changed = memory_changed,
		.slots_ejected = plugs_ejected,
		.slot_outcome = plugs_outcome,
		.owner = m,
	};
	int ret = arch_platform_create(&config, &m->platform, err);

	if (ret == 0 && m->config->cpus < m->config->cpus_max)
		hotplug_init(&m->cpus, m, &hotplug_cpus, arch_platform_cpus(m->platform),
			low_bits(m->config->cpus_max));
	if (ret == 0 && m->memory.area.size)
		hotplug_init(&m->plugged, m, &hotplug_memory, arch_platform_memory(m->platform),
			low_bits(guest_memory_slot_count(&m->memory)));
	if (ret == 0)
		ret = make_console(m, err);
	return ret;
}

static int make(struct machine *m, struct error *err)
{
	int ret = loop_create(&m->loop, 64, err);

	if (ret == 0)
		ret = kvm_open(&m->kvm_fd, err);
	if (ret == 0)
		ret = arch_cpu_model_create(
			m->kvm_fd, m->config->cpu_model, m->config->cpus_max, &m->cpu_model, err);
	if (ret == 0)
		ret = make_memory(m, err);
	if (ret == 0)
		dirty_engine_init(&m->dirty, &m->memory);
	if (ret == 0)
		ret = machine_devices_create(
			&m->devices, m->config, &m->map, &m->memory, m->loop, err);
	if (ret < 0)
		return ret;
	m->devices_made = true;
	ret = make_platform(m, err); /* last: it takes the terminal over */
	if (ret == 0)
		arch_platform_add(m->platform, &m->ports, &m->mmio, &m->devices.host);
	return ret;
}

int machine_create(struct machine_config *config, struct machine **out, struct error *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	int ret;

	if (!m)
		return error_errno(err, ENOMEM, "cannot create the machine");
	m->config = config;
	m->kvm_fd = -1;
	m->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	m->uffd_device = uffd_device_open();
	m->request_job.run = act;
	m->trap_job.run = machine_take_traps;
	plugs_init(m);
	m->paused = config->paused;
	m->started = !config->paused;
	m->pauses = config->paused;
	arch_address_map(&m->map);
	m->cmdline = machine_config_cmdline(config);
	ret = m->cmdline ? make(m, err) : error_errno(err, ENOMEM, "cannot create the machine");
	if (ret < 0) {
		machine_destroy(m);
		return ret;
	}
	*out = m;
	return 0;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	if (m->powered) {
		m->pauses++; /* for good: what is still being drained lets none go */
		vcpus_destroy(&m->vcpus);
	}
	/* The devices let go of the VM's interrupts and kicks while it still exists. */
	if (m->devices_made)
		machine_devices_destroy(&m->devices);
	plugs_destroy(m);
	console_destroy(m->console); /* the loop will not turn any more */
	if (m->powered) {
		arch_platform_disconnect(m->platform, &m->vm);
		dirty_engine_detach(&m->dirty);
		vm_destroy(&m->vm);
	}
	machine_dirty_stop(m);
	dirty_engine_destroy(&m->dirty);
	arch_platform_destroy(m->platform);
	arch_cpu_model_destroy(m->cpu_model);
	cleanup_close(&m->kvm_fd);
	cleanup_close(&m->statm_fd);
	cleanup_close(&m->uffd_device);
	if (m->filler)
		m->filler->release(m->filler);
	guest_memory_destroy(&m->memory);
	loop_destroy(m->loop);
	free(m->cmdline);
	free(m);
}

int machine_run(struct machine *m, enum machine_exit *how, struct error *err)
{
	int ret;

	*how = MACHINE_EXIT_FAILED;
	m->started_ns = now_ns();
	/* Before power_on(), so that every run shows that a reset works under the filter too. */
	ret = sandbox_enter(SANDBOX_MAIN, m->config->seccomp, err);
	if (ret == 0)
		ret = power_on(m, err);
	if (ret < 0) /* it may be only what follows from memory that cannot be had */
		return machine_failed(m, err) ?: ret;
	ret = loop_run(m->loop, err);
	if (ret < 0)
		return ret;
	vcpus_pause(&m->vcpus);
	*how = m->how;
	return m->how == MACHINE_EXIT_FAILED ? machine_failed(m, err) : 0;
}
