/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of everything that describes a VM: the options of `bulkhead run` and the keys of its
 * JSON file. Data only: the build's document generator links this file without the rest. See schema.h
 * for the columns, config_check.c for what no single key can say about the whole.
 */
#include "vmm/base/util.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/config.h"
#include "vmm/machine/config_members.h"
#include "vmm/schema/schema.h"

#define MACHINE(field) STORE(struct machine_config, field)

static const struct schema_choice cpu_models[] = {
	{"host", 0}, {"x86-64-v2", 0}, {"x86-64-v3", 0}, {"x86-64-v4", 0}, {NULL, 0}};

static const struct schema_choice page_kinds[] = {{"off", MEMORY_PAGES_OFF},
	{"thp", MEMORY_PAGES_THP}, {"2M", MEMORY_PAGES_2M}, {"1G", MEMORY_PAGES_1G}, {NULL, 0}};

const struct schema_choice machine_cache_modes[] = {{"none", BLK_CACHE_NONE},
	{"writeback", BLK_CACHE_WRITEBACK}, {"writethrough", BLK_CACHE_WRITETHROUGH}, {NULL, 0}};

static const struct schema_choice console_kinds[] = {{"stdio", CONSOLE_STDIO}, {"off", CONSOLE_OFF},
	{"file:", CONSOLE_FILE}, {"socket:", CONSOLE_SOCKET}, {NULL, 0}};

static const struct schema_choice gdb_kinds[] = {{"off", GDB_OFF}, {"unix:", GDB_UNIX}, {NULL, 0}};

static const struct schema_choice seccomp_modes[] = {
	{"on", SECCOMP_ON}, {"off", SECCOMP_OFF}, {"log", SECCOMP_LOG}, {NULL, 0}};

static const struct schema_choice log_levels[] = {{"error", LOG_ERROR}, {"warn", LOG_WARN},
	{"info", LOG_INFO}, {"debug", LOG_DEBUG}, {NULL, 0}};

static const struct schema cpus_members[] = {
	{.name = "count",
		.type = SCHEMA_NUMBER,
		MACHINE(cpus),
		.min = 1,
		.max = VCPUS_MAX,
		.value = "1",
		.placeholder = "N",
		.help = "vCPUs at the start"},
	{.name = "max",
		.type = SCHEMA_NUMBER,
		MACHINE(cpus_max),
		.min = 1,
		.max = VCPUS_MAX,
		.placeholder = "M",
		.fallback = "as count",
		.help = "the most that can be hot-added"},
	{.name = NULL},
};

static const struct schema memory_members[] = {
	{.name = "size",
		.type = SCHEMA_SIZE,
		MACHINE(memory),
		.min = MEMORY_MIN,
		.max = MEMORY_MAX,
		.value = "512M",
		.placeholder = "SIZE",
		.help = "RAM at the start, a multiple of the page size"},
	{.name = "max",
		.type = SCHEMA_SIZE,
		MACHINE(memory_max),
		.min = MEMORY_MIN,
		.max = MEMORY_MAX,
		.placeholder = "SIZE",
		.fallback = "as size",
		.help = "the most that can be hot-added"},
	{.name = "hugepages",
		.type = SCHEMA_CHOICE,
		MACHINE(hugepages),
		.choices = page_kinds,
		.value = "thp",
		.help = "transparent huge pages, none, or reserved ones of 2 MiB or 1 GiB"},
	{.name = "prealloc",
		.type = SCHEMA_BOOL,
		MACHINE(prealloc),
		.value = "off",
		.help = "take all memory from the host before the start"},
	{.name = NULL},
};

const struct schema machine_disk_schema[] = {
#include "vmm/machine/disk_members.inc"
	{.name = NULL},
};

const struct schema machine_net_schema[] = {
#include "vmm/machine/net_members.inc"
	{.name = NULL},
};

static const struct schema vsock_members[] = {
	{.name = "cid",
		.type = SCHEMA_NUMBER,
		MACHINE(vsock_cid),
		.required = true,
		.min = VSOCK_CID_FIRST,
		.max = VSOCK_CID_LAST,
		.placeholder = "N",
		.help = "the guest's address"},
	{.name = "socket",
		.type = SCHEMA_PATH,
		MACHINE(vsock_socket),
		.required = true,
		.max = VSOCK_LENGTH_MAX,
		.placeholder = "PATH",
		.help = "Unix socket for the host's programs"},
	{.name = NULL},
};

const struct schema machine_config_schema[] = {
	{.name = "config",
		.type = SCHEMA_PATH,
		.flag_only = true,
		.placeholder = "FILE",
		.fallback = "none",
		.help = "read a JSON file with these names as keys; a flag overrides the file"},
	{.name = "name",
		.type = SCHEMA_ID,
		MACHINE(name),
		.value = "vm",
		.placeholder = "ID",
		.help = "the VM's name, in logs, metrics and the process title"},
	{.name = "kernel",
		.type = SCHEMA_PATH,
		MACHINE(kernel),
		.required = true,
		.max = PATH_LENGTH_MAX,
		.placeholder = "FILE",
		.help = "an uncompressed kernel, ELF vmlinux (the fastest), or a bzImage"},
	{.name = "initrd",
		.type = SCHEMA_PATH,
		MACHINE(initrd),
		.max = PATH_LENGTH_MAX,
		.placeholder = "FILE",
		.fallback = "none",
		.help = "initial ramdisk"},
	{.name = "cmdline",
		.type = SCHEMA_TEXT,
		MACHINE(cmdline),
		.max = CMDLINE_LENGTH_MAX,
		.placeholder = "TEXT",
		.fallback =
			"'" MACHINE_CMDLINE_DEFAULT
			"', plus 'root=/dev/vda rw' with a disk and no initrd, and what lets memory be hot-added where memory.max allows any",
		.help = "the kernel command line instead of the default one"},
	{.name = "append",
		.type = SCHEMA_TEXT,
		MACHINE(append),
		.joins = true,
		.max = CMDLINE_LENGTH_MAX,
		.placeholder = "TEXT",
		.fallback = "nothing",
		.help = "put behind the kernel command line; repeatable"},
	{.name = "cpus",
		.type = SCHEMA_OBJECT,
		.members = cpus_members,
		.lead = "count",
		.value = "1",
		.help = "vCPUs"},
	{.name = "cpu-model",
		.type = SCHEMA_WORD,
		MACHINE(cpu_model),
		.choices = cpu_models,
		.value = "host",
		.help = "what the guest sees: this host's CPU, or a psABI level that it can be migrated within"},
	{.name = "memory",
		.type = SCHEMA_OBJECT,
		.members = memory_members,
		.lead = "size",
		.value = "512M",
		.help = "guest RAM"},
	{.name = "disk",
		.type = SCHEMA_LIST,
		.members = machine_disk_schema,
		.offset = offsetof(struct machine_config, disks),
		.size = sizeof(struct disk_options),
		.extra = offsetof(struct machine_config, disk_count),
		.max = MACHINE_DISKS_MAX,
		.fallback = "none",
		.help = "a disk (virtio-blk); repeatable"},
	{.name = "net",
		.type = SCHEMA_LIST,
		.members = machine_net_schema,
		.offset = offsetof(struct machine_config, nets),
		.size = sizeof(struct net_options),
		.extra = offsetof(struct machine_config, net_count),
		.max = MACHINE_NETS_MAX,
		.fallback = "none",
		.help = "a network device (virtio-net) on a tap; repeatable"},
	{.name = "vsock",
		.type = SCHEMA_OBJECT,
		.members = vsock_members,
		.fallback = "none",
		.help = "virtio-vsock: a host program connects to PATH and writes 'CONNECT PORT'; the guest "
			"reaches PATH_PORT"},
	{.name = "control",
		.type = SCHEMA_PATH,
		MACHINE(control),
		.max = SOCKET_LENGTH_MAX,
		.placeholder = "PATH",
		.fallback = "none",
		.help = "the control socket (see bulkhead-ctl(1)), for this user only"},
	{.name = "control-fd",
		.type = SCHEMA_NUMBER,
		MACHINE(control_fd),
		.min = 3,
		.max = 1 << 20,
		.placeholder = "N",
		.fallback = "none",
		.help = "or a Unix stream socket that listens already, as an open descriptor that bulkhead inherits"},
	{.name = "console",
		.type = SCHEMA_CHOICE,
		MACHINE(console),
		.extra = offsetof(struct machine_config, console_path),
		.choices = console_kinds,
		.max = SOCKET_LENGTH_MAX,
		.value = "stdio",
		.help = "where the serial console goes"},
	{.name = "paused",
		.type = SCHEMA_BOOL,
		MACHINE(paused),
		.value = "off",
		.help = "create the VM, but do not start it"},
	{.name = "gdb",
		.type = SCHEMA_CHOICE,
		MACHINE(gdb),
		.extra = offsetof(struct machine_config, gdb_path),
		.choices = gdb_kinds,
		.max = SOCKET_LENGTH_MAX,
		.value = "off",
		.help = "a socket for gdb, to debug the guest's kernel, for this user only"},
	{.name = "seccomp",
		.type = SCHEMA_CHOICE,
		MACHINE(seccomp),
		.choices = seccomp_modes,
		.value = "on",
		.help = "the filters of system calls: on, off, or only log what they would stop"},
	{.name = "log-level",
		.type = SCHEMA_CHOICE,
		MACHINE(log_level),
		.choices = log_levels,
		.value = "warn",
		.help = "how much is told"},
	{.name = "log-file",
		.type = SCHEMA_PATH,
		MACHINE(log_file),
		.max = PATH_LENGTH_MAX,
		.placeholder = "FILE",
		.fallback = "standard error",
		.help = "where it is told"},
	{.name = "metrics-file",
		.type = SCHEMA_PATH,
		MACHINE(metrics_file),
		.max = PATH_LENGTH_MAX,
		.placeholder = "FILE",
		.fallback = "none",
		.help = "rewritten every 10 s in Prometheus text format"},
	{.name = NULL},
};
