/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The description of one VM, as `run` takes it from flags and a JSON file.
 *
 * Both sources meet before they are checked: a flag becomes the JSON value that the file would have
 * had, and one schema (config_schema.c) checks types, ranges and names of the whole, so that a flag
 * and a key can never differ in meaning or in what they refuse.
 */
#pragma once

#include "virtio/blk.h"
#include "virtio/net.h"
#include "vmm/base/error.h"
#include "vmm/base/log.h"
#include "vmm/machine/clone_address.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/schema/schema.h"

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_DISKS_MAX 28 /* slots of bus 0 less the host bridge, vsock and some networks */
#define MACHINE_NETS_MAX  28
#define MACHINE_DEVICES_MAX                                                                        \
	30 /* all PCI devices together: 31 slots beside the host bridge, one kept */
#define MACHINE_CONFIG_SIZE  (1u << 20) /* the largest JSON file accepted */
#define MACHINE_CMDLINE_SIZE 2048	/* COMMAND_LINE_SIZE of x86 and arm64, with the NUL */
/* Where memory can come: Linux uses it at once, and as far as it is wise in a way that lets it go again. */
#define MACHINE_CMDLINE_PLUG	" memhp_default_state=online memory_hotplug.online_policy=auto-movable"
#define MACHINE_CMDLINE_DEFAULT "console=ttyS0 panic=-1 reboot=t"

struct disk_options {
	char id[64];
	char *path;
	char *serial; /* NULL: the id */
	char *base;   /* the path is an overlay on it; NULL: it is not */
	bool readonly, discard;
	enum blk_cache cache;
	unsigned queues;
	uint64_t iops, bps;
	unsigned slot; /* on the PCI bus; 0: the first that is free. No key: a state says it */
};

struct net_options {
	char id[64];
	char *tap;
	int fd; /* -1: none */
	uint8_t mac[6];
	bool mac_given; /* else the machine derives it: net_derive_mac() */
	unsigned mtu;	/* 0: as the tap says */
	unsigned queues;
	bool vhost;
	uint64_t pps, bps;
	unsigned slot; /* as a disk's */
};

enum console_kind { CONSOLE_STDIO, CONSOLE_OFF, CONSOLE_FILE, CONSOLE_SOCKET };
enum gdb_kind { GDB_OFF, GDB_UNIX };
enum seccomp_mode { SECCOMP_ON, SECCOMP_OFF, SECCOMP_LOG };

struct machine_config {
	char name[64];
	char *kernel, *initrd;
	char *cmdline; /* NULL: the default */
	char *append;  /* NULL: nothing */
	unsigned cpus, cpus_max;
	char *cpu_model;
	uint64_t memory, memory_max;
	enum memory_pages hugepages;
	bool prealloc;
	unsigned disk_count, net_count;
	struct disk_options disks[MACHINE_DISKS_MAX];
	struct net_options nets[MACHINE_NETS_MAX];
	uint64_t vsock_cid; /* 0: no vsock */
	char *vsock_socket;
	unsigned vsock_slot; /* as a disk's */
	char *control;	     /* NULL: none */
	int control_fd;	     /* or a socket that listens already; -1: none */
	enum console_kind console;
	char *console_path;
	bool paused;
	enum gdb_kind gdb;
	char *gdb_path;
	enum seccomp_mode seccomp;
	enum log_level log_level;
	char *log_file, *metrics_file;
};

/* Names, types, ranges, defaults and help of all of the above: the options of `run`, the keys of the file. */
extern const struct schema machine_config_schema[];
/* How a VM is restored: the options of `restore` that are not the VM's own. schema_release() frees its texts. */
struct restore_options {
	bool clone, track;
	enum { WORKING_SET_OFF, WORKING_SET_ON } working_set;
	enum { VERIFY_CHANGED, VERIFY_ALL } verify;
	/* AUTO: map, and on demand where any of it is compressed. */
	enum { MEMORY_FROM_AUTO, MEMORY_FROM_MAP, MEMORY_FROM_ONDEMAND, MEMORY_FROM_READ } memory;
	unsigned address_count;
	struct clone_address addresses[CLONE_ADDRESSES_MAX];
};

/* The options of `restore`: these, and those of `run` that can be given anew. */
extern const struct schema machine_restore_switches[], machine_restore_schema[];
/* The members of `disk` and `net` in it; fd is -1 where a network has none. */
extern const struct schema machine_disk_schema[], machine_net_schema[];

/*
 * The options of `run` (argv without the subcommand), merged over the file that --config names.
 * Sets *help, and nothing else, where help is asked for. Free the configuration after success only.
 */
int machine_config_from_args(
	struct machine_config *config, int argc, char *const *argv, bool *help, struct error *err);

/*
 * Put `flags` over the file that their "config" names, if any, and leave that out. A list of the flags takes the place of the
 * file's, or stands behind it (`join`). A new reference in *out; `flags` may be changed.
 */
int machine_config_merge_file(json_t *flags, bool join, json_t **out, struct error *err);

/* One JSON object, checked whole. Free the configuration after success only. */
int machine_config_from_json(
	struct machine_config *config, const json_t *object, struct error *err);

/*
 * A configuration to be kept in a snapshot: what the guest sees and what is behind its devices, with absolute paths; not what
 * belongs to this process (sockets, logs, the console). A new reference.
 */
json_t *machine_config_to_save(const struct machine_config *config);

/*
 * The way back: `saved`, with what is given anew in `flags` (of machine_restore_schema, changed here). A disk or network of the
 * flags names one of the saved by its id, and gives what is another about it. Free the configuration after success only; the
 * options' texts are the caller's in any case.
 */
int machine_config_from_saved(struct machine_config *config, const json_t *saved, json_t *flags,
	struct restore_options *options, struct error *err);

/* Parse a JSON text as a file would be; `name` is what messages call it. A new reference in *out. */
int machine_config_parse(
	const char *text, size_t size, const char *name, json_t **out, struct error *err);

/* What no key can say alone: ids and paths that clash, devices that do not fit. Used by the above. */
int machine_config_check(struct machine_config *config, struct error *err);

void machine_config_free(struct machine_config *config);

/* The kernel command line as the guest gets it: default or given, plus root= and what was appended. Caller frees. */
char *machine_config_cmdline(const struct machine_config *config);
