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
	DISK_MEMBER_BASE,
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

/* clang-format off */
#define CONFIG_FILE                                                                                \
	{.name = "config",                                                                         \
		.type = SCHEMA_PATH,                                                               \
		.flag_only = true,                                                                 \
		.placeholder = "FILE",                                                             \
		.fallback = "none",                                                                \
		.help = "read a JSON file with these names as keys; a flag overrides the file"}
/* clang-format on */

const struct schema machine_config_schema[] = {
	CONFIG_FILE,
#include "vmm/machine/config_boot.inc"
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
#include "vmm/machine/config_host.inc"
	{.name = NULL},
};

static const struct schema_choice verify_modes[] = {
	{"changed", VERIFY_CHANGED}, {"all", VERIFY_ALL}, {NULL, 0}};

static const struct schema_choice memory_sources[] = {{"auto", MEMORY_FROM_AUTO},
	{"map", MEMORY_FROM_MAP}, {"ondemand", MEMORY_FROM_ONDEMAND}, {"read", MEMORY_FROM_READ},
	{NULL, 0}};

static const struct schema_choice working_set_uses[] = {
	{"on", WORKING_SET_ON}, {"off", WORKING_SET_OFF}, {NULL, 0}};

#define RESTORE(field) STORE(struct restore_options, field)
#define ADDRESS(field) STORE(struct clone_address, field)

static const struct schema guest_address_members[] = {
	{.name = "net",
		.type = SCHEMA_ID,
		ADDRESS(net),
		.value = "net0",
		.placeholder = "ID",
		.help = "the network device"},
	{.name = "address",
		.type = SCHEMA_TEXT,
		ADDRESS(address),
		.required = true,
		.min = 1,
		.max = 63,
		.placeholder = "ADDRESS/PREFIX",
		.help = "what takes the place of the addresses that its interface has in the guest"},
	{.name = "gateway",
		.type = SCHEMA_TEXT,
		ADDRESS(gateway),
		.min = 1,
		.max = 63,
		.placeholder = "ADDRESS",
		.fallback = "none",
		.help = "where the guest's default route goes"},
	{.name = NULL},
};

/* Their target is a struct restore_options; the rest of the table is the VM's. */
const struct schema machine_restore_switches[] = {
#include "vmm/machine/restore_switches.inc"
	{.name = NULL},
};

const struct schema machine_restore_schema[] = {
	CONFIG_FILE,
/* NOLINTNEXTLINE(readability-duplicate-include): one more table that has these */
#include "vmm/machine/config_boot.inc"
/* NOLINTNEXTLINE(readability-duplicate-include): one more table that has these */
#include "vmm/machine/config_host.inc"
/* NOLINTNEXTLINE(readability-duplicate-include): one more table that has these */
#include "vmm/machine/restore_switches.inc"
	{.name = NULL},
};
