/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead chain`: what a snapshot rests on (list), a chain as one snapshot of its own (merge), and what is no longer wanted
 * removed without breaking a chain (prune). prune looks at all snapshots below one folder: they are the world it knows.
 */
#include "vmm/base/util.h"
#include "vmm/cli/arguments.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/help.h"
#include "vmm/cli/report.h"
#include "vmm/cli/snapshots.h"
#include "vmm/transfer/snapshot_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define TREE_DEPTH 16

/* ---- list ---- */

static int list(
	char *const *words, unsigned count, const struct chain_options *options, struct error *err)
{
	json_t *links = json_array();
	struct chain *chain;
	char made[32], kind[48], usage[32];
	int ret = count == 1
			  ? chain_open(&chain, words[0], err)
			  : error_set(err, ERROR_BAD_REQUEST, "chain list: one folder is wanted");

	for (unsigned i = 0; ret == 0 && i < chain->count; i++) {
		const struct chain_link *link = &chain->links[i];

		json_array_append_new(links, snapshot_link_json(link));
		if (!options->json)
			printf("%s  %s  %-22s %10s  %s\n", link->manifest.id,
				snapshot_time(link->manifest.created_ns, made),
				snapshot_kind_words(&link->manifest, kind),
				snapshot_size(snapshot_usage(link), usage), link->path);
	}
	if (ret == 0 && options->json) {
		json_dumpf(links, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	if (ret == 0)
		chain_close(chain);
	json_decref(links);
	return ret;
}

/* ---- merge ---- */

static int merge(
	char *const *words, unsigned count, const struct chain_options *options, struct error *err)
{
	struct chain_verify_watch watch;
	struct chain *chain;
	int ret;

	if (count != 2)
		return error_set(err, ERROR_BAD_REQUEST,
			"chain merge: a snapshot's folder and a new one are wanted");
	ret = chain_open(&chain, words[0], err);
	if (ret < 0)
		return ret;
	/* What is damaged must not get new checksums. */
	watch = snapshot_watch("verify");
	ret = chain_verify(chain, CHAIN_VERIFY_STAMPED, &watch, err);
	snapshot_watch_end();
	if (ret == 0) {
		watch = snapshot_watch("merge");
		ret = chain_merge(chain, words[1], options->zstd ? SNAPSHOT_ZSTD : SNAPSHOT_PLAIN,
			&watch, err);
		snapshot_watch_end();
	}
	chain_close(chain);
	return ret;
}

/* ---- prune ---- */

struct found {
	char *path; /* real */
	char id[SNAPSHOT_ID_SIZE], parent[SNAPSHOT_ID_SIZE];
	uint64_t created_ns, bytes;
	bool keep;
	unsigned depth; /* parents of it that are in the tree */
};

struct tree {
	struct found *list;
	size_t count, room;
};

static int add_found(struct tree *tree, int dir, const char *path, struct error *err)
{
	struct chain_link link = {.dir = dir, .path = (char *)(uintptr_t)path};
	struct found *found;
	int ret = snapshot_manifest_read(&link.manifest, dir, err);

	/* What it rests on cannot be known: so nothing may be removed. */
	if (ret < 0)
		return error_prefix(err, "snapshot '%s'", path);
	if (tree->count == tree->room) {
		size_t room = tree->room ? tree->room * 2 : 64;
		void *more = reallocarray(tree->list, room, sizeof(*tree->list));

		if (!more) {
			snapshot_manifest_destroy(&link.manifest);
			return error_errno(err, ENOMEM, "cannot look through '%s'", path);
		}
		tree->list = more;
		tree->room = room;
	}
	found = &tree->list[tree->count++];
	*found = (struct found){.path = strdup(path),
		.created_ns = link.manifest.created_ns,
		.bytes = snapshot_usage(&link)};
	memcpy(found->id, link.manifest.id, sizeof(found->id));
	memcpy(found->parent, link.manifest.parent, sizeof(found->parent));
	snapshot_manifest_destroy(&link.manifest);
	return found->path ? 0 : error_errno(err, ENOMEM, "cannot look through '%s'", path);
}

static int look_through(struct tree *tree, const char *path, unsigned depth, struct error *err);

static int look_into(
	struct tree *tree, DIR *stream, const char *path, unsigned depth, struct error *err)
{
	struct dirent *entry;
	int ret = 0;

	while (ret == 0 && (entry = readdir(stream))) {
		_cleanup_free_ char *below = NULL;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
			(entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
			continue;
		if (asprintf(&below, "%s/%s", path, entry->d_name) < 0) {
			below = NULL;
			return error_errno(err, ENOMEM, "cannot look through '%s'", path);
		}
		ret = look_through(tree, below, depth + 1, err);
	}
	return ret;
}

/* A folder that is a snapshot, or has some below it. Links to elsewhere are not followed. */
static int look_through(struct tree *tree, const char *path, unsigned depth, struct error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *stream;
	int ret = 0;

	if (fd < 0)
		return errno == ENOTDIR && depth
			       ? 0
			       : error_errno(err, errno, "cannot open '%s'", path);
	if (depth > TREE_DEPTH) {
		close(fd);
		return error_set(err, ERROR_BAD_REQUEST, "'%s' lies too deep in the tree", path);
	}
	if (faccessat(fd, SNAPSHOT_MANIFEST_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		ret = add_found(tree, fd, path, err);
	stream = fdopendir(fd);
	if (ret == 0 && stream)
		ret = look_into(tree, stream, path, depth, err);
	if (stream)
		closedir(stream);
	else
		close(fd);
	return ret;
}

static struct found *find_id(const struct tree *tree, const char *id)
{
	for (size_t i = 0; *id && i < tree->count; i++)
		if (!strcmp(tree->list[i].id, id))
			return &tree->list[i];
	return NULL;
}

static int newest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->created_ns < y->created_ns) - (x->created_ns > y->created_ns);
}

static int deepest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->depth < y->depth) - (x->depth > y->depth);
}

/* Those that are named; everything else is kept. */
static int choose_named(
	const struct tree *tree, char *const *words, unsigned count, struct error *err)
{
	for (size_t i = 0; i < tree->count; i++)
		tree->list[i].keep = true;
	for (unsigned n = 0; n < count; n++) {
		_cleanup_free_ char *path = realpath(words[n], NULL);
		bool found = false;

		for (size_t i = 0; path && i < tree->count; i++)
			if (!strcmp(tree->list[i].path, path)) {
				tree->list[i].keep = false;
				found = true;
			}
		if (!found)
			return error_set(
				err, ERROR_NOT_FOUND, "'%s' is no snapshot in the tree", words[n]);
	}
	return 0;
}

/* All that is kept must have its parents. With --keep they are kept as well; of those that were named it is refused. */
static int settle(const struct tree *tree, bool refuse, struct error *err)
{
	for (size_t i = 0; i < tree->count; i++) {
		struct found *child = &tree->list[i], *parent;
		size_t steps = 0;

		for (parent = find_id(tree, child->parent); parent;
			parent = find_id(tree, parent->parent)) {
			if (++steps > tree->count)
				return error_set(err, ERROR_CORRUPT,
					"snapshot '%s': is its own ancestor", child->path);
			child->depth++;
			if (!child->keep || parent->keep)
				continue;
			if (refuse) {
				error_set(err, ERROR_WRONG_STATE,
					"'%s' cannot be removed: '%s' rests on it", parent->path,
					child->path);
				return error_hint(err,
					"remove that as well, or make it stand alone: bulkhead chain merge");
			}
			parent->keep = true;
		}
	}
	return 0;
}

/* Children before their parents, so that no chain is ever broken, whenever this ends. */
static int remove_chosen(struct tree *tree, bool dry_run, struct error *err)
{
	char size[32];
	int ret = 0;

	if (tree->count)
		qsort(tree->list, tree->count, sizeof(*tree->list), deepest_first);
	for (size_t i = 0; ret == 0 && i < tree->count; i++) {
		if (tree->list[i].keep)
			continue;
		if (!dry_run)
			ret = snapshot_dir_remove(tree->list[i].path, err);
		if (ret == 0)
			printf("%s %s (%s)\n", dry_run ? "would remove" : "removed",
				tree->list[i].path, snapshot_size(tree->list[i].bytes, size));
	}
	return ret;
}

static int prune_tree(struct tree *tree, char *const *words, unsigned count,
	const struct chain_options *options, struct error *err)
{
	_cleanup_free_ char *top = realpath(words[0], NULL);
	int ret = top ? look_through(tree, top, 0, err)
		      : error_errno(err, errno, "cannot open '%s'", words[0]);

	if (ret < 0)
		return ret;
	if (options->keep) {
		if (tree->count)
			qsort(tree->list, tree->count, sizeof(*tree->list), newest_first);
		for (size_t i = 0; i < tree->count && i < options->keep; i++)
			tree->list[i].keep = true;
	} else {
		ret = choose_named(tree, words + 1, count - 1, err);
	}
	if (ret == 0)
		ret = settle(tree, !options->keep, err);
	return ret ?: remove_chosen(tree, options->dry_run, err);
}

static int prune(
	char *const *words, unsigned count, const struct chain_options *options, struct error *err)
{
	struct tree tree = {0};
	int ret;

	if (count < 1 || (count > 1) == (options->keep > 0))
		return error_set(err, ERROR_BAD_REQUEST,
			"chain prune: a folder is wanted, and either --keep or the snapshots in it that are to go");
	ret = prune_tree(&tree, words, count, options, err);
	for (size_t i = 0; i < tree.count; i++)
		free(tree.list[i].path);
	free(tree.list);
	return ret;
}

/* ---- the command ---- */

static const struct {
	const char *name;
	int (*run)(char *const *words, unsigned count, const struct chain_options *options,
		struct error *err);
} actions[] = {{"list", list}, {"merge", merge}, {"prune", prune}};

static int act(
	char *const *words, unsigned count, const struct chain_options *options, struct error *err)
{
	for (unsigned i = 0; count && i < ARRAY_SIZE(actions); i++)
		if (!strcmp(words[0], actions[i].name))
			return actions[i].run(words + 1, count - 1, options, err);
	return error_set(err, ERROR_BAD_REQUEST,
		"chain: one of list, merge, prune is wanted (see bulkhead chain --help)");
}

int chain_main(int argc, char *const *argv)
{
	_cleanup_free_ char **words = calloc((size_t)argc + 1, sizeof(*words));
	struct chain_options options = {0};
	struct error err;
	unsigned count = 0;
	bool help = false;
	int ret = words ? cli_arguments(commands[COMMAND_CHAIN].options, argc, argv, &options,
				  words, &count, &help, &err)
			: error_set(&err, ERROR_NO_RESOURCE, "no memory");

	if (ret < 0) {
		cli_report(&err);
		return CLI_USAGE;
	}
	if (help) {
		help_print_command(stdout, &commands[COMMAND_CHAIN]);
		return CLI_OK;
	}
	if (act(words, count, &options, &err) == 0)
		return CLI_OK;
	cli_report(&err);
	return err.kind == ERROR_BAD_REQUEST ? CLI_USAGE : CLI_FAILED;
}
