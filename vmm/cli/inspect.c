/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead inspect`: what a snapshot is, on what it rests, what it takes, and whether it is as it was written. */
#include "vmm/base/util.h"
#include "vmm/cli/arguments.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/help.h"
#include "vmm/cli/report.h"
#include "vmm/cli/snapshots.h"
#include "vmm/memory/pages.h"
#include "vmm/state/state.h"
#include "vmm/transfer/workingset.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Everything in the codec's file. A new reference, or NULL. */
static json_t *describe_state(const struct chain *chain, struct error *err)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct state_reader reader;
	json_t *state;
	size_t size;

	if (chain_load_part(chain, SNAPSHOT_STATE_FILE, STATE_SIZE_MAX, &bytes, &size, err) < 0 ||
		state_open(&reader, bytes, size, err) < 0)
		return NULL;
	state = state_describe(&reader, err);
	state_close(&reader);
	return state;
}

static void print_parts(const struct chain_link *link)
{
	char size[32], usage[32];

	for (unsigned i = 0; i < link->manifest.part_count; i++) {
		const struct snapshot_part *part = &link->manifest.parts[i];

		printf("  %-20s %10s, %10s on the disk%s\n", part->name,
			snapshot_size(part->size, size),
			snapshot_size(snapshot_part_usage(link->dir, part->name), usage),
			part->check == SNAPSHOT_CHECK_SIZE ? ", without a checksum" : "");
	}
}

static void print_disks(const struct snapshot_manifest *m)
{
	static const char *const modes[] = {[SNAPSHOT_DISK_NONE] = "not in the snapshot",
		[SNAPSHOT_DISK_REFLINK] = "reflink",
		[SNAPSHOT_DISK_COPY] = "copy",
		[SNAPSHOT_DISK_INCREMENTAL] = "changes since the parent"};
	char size[32];

	for (unsigned i = 0; i < m->disk_count; i++)
		printf("  %-20s %10s, %s\n", m->disks[i].id, snapshot_size(m->disks[i].size, size),
			modes[m->disks[i].mode]);
}

/* Bytes of memory that are read ahead at the next restore; 0: it is not known which. */
static uint64_t working_set(const struct chain *chain)
{
	struct page_set set;
	struct error ignored;
	uint64_t pages = 0;

	if (page_set_create(&set, chain->pages, &ignored) < 0)
		return 0;
	if (workingset_load(chain->links->dir, &set, &ignored) == 0)
		pages = page_set_size(&set);
	page_set_destroy(&set);
	return pages * GUEST_PAGE_SIZE;
}

static void print_text(const struct chain *chain, const char *verified)
{
	const struct snapshot_manifest *m = &chain->links->manifest;
	uint64_t ahead = working_set(chain);
	char made[32], kind[48], size[32], usage[32];
	const char *name;
	json_t *value;

	printf("snapshot      %s\n", m->id);
	printf("folder        %s\n", chain->links->path);
	printf("made          %s UTC by bulkhead %s\n", snapshot_time(m->created_ns, made),
		m->version);
	printf("VM            %s, %s\n", m->name, m->architecture);
	printf("kind          %s\n", snapshot_kind_words(m, kind));
	printf("memory        %s, %" PRIu64 " pages written, %" PRIu64 " of zeros\n",
		snapshot_size(snapshot_memory_size(m), size), m->data_pages, m->zero_pages);
	if (ahead)
		printf("working set   %s, read ahead at a restore\n", snapshot_size(ahead, size));
	printf("checksums     %s\n", verified);
	printf("parts\n");
	print_parts(chain->links);
	if (m->disk_count)
		printf("disks\n");
	print_disks(m);
	if (json_object_size(m->devices))
		printf("devices\n");
	json_object_foreach(m->devices, name, value)
	{
		_cleanup_free_ char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

		printf("  %-20s %s\n", name, text ? text : "");
	}
	printf("chain\n");
	for (unsigned i = 0; i < chain->count; i++)
		printf("  %.8s  %s  %-22s %10s  %s\n", chain->links[i].manifest.id,
			snapshot_time(chain->links[i].manifest.created_ns, made),
			snapshot_kind_words(&chain->links[i].manifest, kind),
			snapshot_size(snapshot_usage(&chain->links[i]), usage),
			chain->links[i].path);
}

static void print_json(const struct chain *chain, bool verified, json_t *state)
{
	const struct snapshot_manifest *m = &chain->links->manifest;
	json_t *object = snapshot_link_json(chain->links), *links = json_array();

	for (unsigned i = 0; i < chain->count; i++)
		json_array_append_new(links, snapshot_link_json(&chain->links[i]));
	json_object_set_new(object, "chain", links);
	json_object_set_new(object, "verified", json_boolean(verified));
	json_object_set_new(
		object, "working_set_bytes", json_integer((json_int_t)working_set(chain)));
	json_object_set(object, "devices", m->devices ? m->devices : json_null());
	json_object_set(object, "machine", m->machine ? m->machine : json_null());
	if (state)
		json_object_set(object, "state", state);
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(object);
}

static int verify(struct chain *chain, struct error *err)
{
	struct chain_verify_watch watch = snapshot_watch("verify");
	int ret = chain_verify(chain, CHAIN_VERIFY_ALL, &watch, err);

	snapshot_watch_end();
	return ret;
}

static int inspect(const char *path, const struct inspect_options *options, struct error *err)
{
	struct chain *chain;
	json_t *state = NULL;
	int ret = chain_open(&chain, path, err);

	if (ret < 0)
		return ret;
	if (options->verify)
		ret = verify(chain, err);
	if (ret == 0 && options->state) {
		state = describe_state(chain, err);
		ret = state ? 0 : -err->code;
	}
	if (ret == 0 && options->json)
		print_json(chain, options->verify, state);
	else if (ret == 0)
		print_text(chain, options->verify
					  ? "all were read, and are right"
					  : "of the small parts are right (--verify reads all)");
	if (ret == 0 && state && !options->json) {
		printf("state\n");
		json_dumpf(state, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(state);
	chain_close(chain);
	return ret;
}

int inspect_main(int argc, char *const *argv)
{
	_cleanup_free_ char **words = calloc((size_t)argc + 1, sizeof(*words));
	struct inspect_options options = {0};
	struct error err;
	unsigned count = 0;
	bool help = false;
	int ret = words ? cli_arguments(commands[COMMAND_INSPECT].options, argc, argv, &options,
				  words, &count, &help, &err)
			: error_set(&err, ERROR_NO_RESOURCE, "no memory");

	if (ret == 0 && help) {
		help_print_command(stdout, &commands[COMMAND_INSPECT]);
		return CLI_OK;
	}
	if (ret == 0 && count != 1)
		ret = error_set(&err, ERROR_BAD_REQUEST,
			"inspect: one snapshot's folder is wanted (see bulkhead inspect --help)");
	if (ret < 0) {
		cli_report(&err);
		return CLI_USAGE;
	}
	if (inspect(words[0], &options, &err) == 0)
		return CLI_OK;
	cli_report(&err);
	return CLI_FAILED;
}
