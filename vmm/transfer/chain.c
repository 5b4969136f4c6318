/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a snapshot with its parents, and where each page comes from: see chain.h. */
#include "vmm/transfer/chain.h"

#include "vmm/base/util.h"
#include "vmm/state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* No index file can be larger: 16 bytes a page, and its header. */
#define PART_MAX(pages) ((pages)*16 + 64)

/* ---- one link ---- */

/* A part's whole content, whose size and checksum are what the manifest says. */
static int load_part(const struct chain_link *link, const char *name, uint64_t limit,
	uint8_t **bytes, size_t *size, struct error *err)
{
	const struct snapshot_part *part = snapshot_manifest_part(&link->manifest, name);
	int ret;

	if (!part)
		return error_set(err, ERROR_CORRUPT, "there is no part '%s'", name);
	if (part->size > limit)
		return error_set(err, ERROR_CORRUPT, "'%s' has %" PRIu64 " bytes, more than can be",
			name, part->size);
	ret = file_load(link->dir, name, part->size, bytes, size, err);
	if (ret < 0)
		return ret;
	if (*size == part->size && checksum_equal(checksum_of(*bytes, *size), part->sum))
		return 0;
	free(steal_ptr(bytes));
	return error_set(err, ERROR_CORRUPT, "'%s' is damaged: its %s is not right", name,
		*size == part->size ? "checksum" : "size");
}

static int open_memory(struct chain_link *link, uint64_t pages, struct error *err)
{
	bool plain = link->manifest.compression == SNAPSHOT_PLAIN;
	const char *name = plain ? SNAPSHOT_MEMORY_FILE : SNAPSHOT_ZSTD_FILE;
	const struct snapshot_part *part = snapshot_manifest_part(&link->manifest, name);
	struct stat st;

	link->memory =
		openat(link->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (link->memory < 0)
		return error_errno(err, errno, "cannot open '%s'", name);
	if (fstat(link->memory, &st) < 0)
		return error_errno(err, errno, "cannot look at '%s'", name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != part->size)
		return error_set(err, ERROR_CORRUPT,
			"'%s' has %jd bytes, not the %" PRIu64 " that were written", name,
			(intmax_t)st.st_size, part->size);
	return plain ? 0
		     : zstd_frames_open(
			       &link->frames, link->memory, part->size, pages, &part->sum, err);
}

static int load_sums(struct chain_link *link, uint64_t pages, struct error *err)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t size;
	int ret = load_part(link, PAGE_SUMS_FILE, PART_MAX(pages), &bytes, &size, err);

	return ret ?: page_sums_decode(&link->sums, bytes, size, pages, err);
}

static int load_ranges(struct chain_link *link, uint64_t pages, struct error *err)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t size;
	int ret = load_part(link, PAGE_RANGES_FILE, PART_MAX(pages), &bytes, &size, err);

	return ret ?: page_ranges_decode(&link->ranges, bytes, size, pages, err);
}

static int read_link(struct chain_link *link, struct error *err)
{
	uint64_t pages;
	int ret = snapshot_manifest_read(&link->manifest, link->dir, err);

	if (ret < 0)
		return ret;
	pages = memory_layout_pages(&link->manifest.memory);
	ret = open_memory(link, pages, err);
	if (ret == 0)
		ret = load_sums(link, pages, err);
	if (ret == 0 && link->manifest.kind == SNAPSHOT_INCREMENTAL)
		ret = load_ranges(link, pages, err);
	return ret;
}

/* `path` is as its user gave it, or its child's manifest. */
static int open_link(struct chain_link *link, const char *path, struct error *err)
{
	int ret;

	*link = (struct chain_link){.dir = -1, .memory = -1};
	link->path = realpath(path, NULL);
	if (link->path)
		link->dir = open(link->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (link->dir < 0)
		return error_errno(err, errno, "cannot open the snapshot '%s'", path);
	ret = read_link(link, err);
	return ret < 0 ? error_prefix(err, "snapshot '%s'", link->path) : 0;
}

static void close_link(struct chain_link *link)
{
	snapshot_manifest_destroy(&link->manifest);
	page_sums_destroy(&link->sums);
	page_ranges_destroy(&link->ranges);
	zstd_frames_close(&link->frames);
	if (link->memory >= 0)
		close(link->memory);
	if (link->dir >= 0)
		close(link->dir);
	free(link->path);
}

/* ---- from child to parent ---- */

static int check_parent(
	const struct chain *chain, const struct chain_link *parent, struct error *err)
{
	const struct chain_link *child = parent - 1;

	if (strcmp(parent->manifest.id, child->manifest.parent) != 0)
		return error_set(err, ERROR_CORRUPT,
			"snapshot '%s': its parent is %s, and in '%s' there is %s", child->path,
			child->manifest.parent, parent->path, parent->manifest.id);
	for (const struct chain_link *link = chain->links; link < parent; link++)
		if (!strcmp(link->manifest.id, parent->manifest.id))
			return error_set(err, ERROR_CORRUPT, "snapshot '%s': is its own ancestor",
				parent->path);
	if (!memory_layout_same_places(&parent->manifest.memory, &child->manifest.memory) ||
		strcmp(parent->manifest.architecture, child->manifest.architecture) != 0)
		return error_set(err, ERROR_CORRUPT,
			"snapshot '%s': its parent in '%s' is of another machine's memory",
			child->path, parent->path);
	return 0;
}

static int open_parent(struct chain *chain, struct error *err)
{
	const struct chain_link *child = &chain->links[chain->count - 1];
	const char *folder = child->manifest.parent_folder;
	_cleanup_free_ char *path = NULL;
	int ret;

	if (chain->count == CHAIN_LINKS_MAX) {
		error_set(err, ERROR_CORRUPT, "snapshot '%s': has more than %u ancestors",
			chain->links->path, CHAIN_LINKS_MAX - 1);
		return error_hint(err, "merge them: see bulkhead chain merge");
	}
	if (asprintf(&path, "%s%s%s", *folder == '/' ? "" : child->path, *folder == '/' ? "" : "/",
		    folder) < 0) {
		path = NULL;
		return error_errno(err, ENOMEM, "cannot open the parent of '%s'", child->path);
	}
	ret = open_link(&chain->links[chain->count++], path, err);
	if (ret == -ENOENT) {
		error_prefix(err, "snapshot '%s': its parent is not there", child->path);
		return error_hint(err, "put the parent's folder back, or use a full snapshot");
	}
	return ret ?: check_parent(chain, &chain->links[chain->count - 1], err);
}

static int open_links(struct chain *chain, const char *path, struct error *err)
{
	int ret;

	chain->links = calloc(CHAIN_LINKS_MAX, sizeof(*chain->links));
	if (!chain->links)
		return error_errno(err, ENOMEM, "cannot open '%s'", path);
	ret = open_link(&chain->links[chain->count++], path, err);
	while (ret == 0 && *chain->links[chain->count - 1].manifest.parent)
		ret = open_parent(chain, err);
	return ret;
}

/* ---- where each page comes from ---- */

struct extents {
	struct chain_extent *list;
	uint64_t count, room;
};

static int add_extent(
	struct extents *to, uint64_t first, uint64_t end, uint32_t link, struct error *err)
{
	struct chain_extent *last = to->count ? &to->list[to->count - 1] : NULL;

	if (first >= end)
		return 0;
	if (last && last->link == link) {
		last->count += end - first;
		return 0;
	}
	if (!to->list || to->count == to->room) {
		uint64_t room = to->room ? to->room * 2 : 64;
		void *more = reallocarray(to->list, room, sizeof(*to->list));

		if (!more)
			return error_errno(err, ENOMEM, "cannot lay the chain's pages out");
		to->list = more;
		to->room = room;
	}
	to->list[to->count++] = (struct chain_extent){first, end - first, link};
	return 0;
}

/* What `below` has of [from, to), from its extent *at on. */
static int keep(struct extents *out, const struct extents *below, uint64_t *at, uint64_t from,
	uint64_t to, struct error *err)
{
	int ret = 0;

	while (ret == 0 && *at < below->count && from < to) {
		const struct chain_extent *e = &below->list[*at];
		uint64_t end = min_u64(e->first + e->count, to);

		ret = add_extent(out, max_u64(from, e->first), end, e->link, err);
		from = max_u64(from, end);
		if (e->first + e->count > to)
			break;
		++*at;
	}
	return ret;
}

/* The ranges of link `number` over what is below it. */
static int lay_over(struct extents *extents, const struct chain_link *link, uint32_t number,
	uint64_t pages, struct error *err)
{
	struct extents out = {0};
	uint64_t at = 0, done = 0;
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i < link->ranges.count; i++) {
		const struct page_run *run = &link->ranges.ranges[i];

		ret = keep(&out, extents, &at, done, run->first, err);
		done = run->first + run->count;
		if (ret == 0)
			ret = add_extent(
				&out, run->first, done, run->zero ? CHAIN_ZERO : number, err);
		while (at < extents->count &&
			extents->list[at].first + extents->list[at].count <= done)
			at++;
	}
	if (ret == 0)
		ret = keep(&out, extents, &at, done, pages, err);
	free(extents->list);
	*extents = out;
	return ret;
}

static int lay_out(struct chain *chain, struct error *err)
{
	struct extents extents = {0};
	int ret;

	chain->pages = memory_layout_pages(&chain->links->manifest.memory);
	ret = add_extent(&extents, 0, chain->pages, chain->count - 1, err);
	for (unsigned i = chain->count - 1; ret == 0 && i-- > 0;)
		ret = lay_over(&extents, &chain->links[i], i, chain->pages, err);
	chain->extents = extents.list;
	chain->extent_count = extents.count;
	return ret;
}

int chain_open(struct chain **out, const char *path, struct error *err)
{
	struct chain *chain = calloc(1, sizeof(*chain));
	_cleanup_free_ uint8_t *state = NULL;
	size_t size;
	int ret;

	if (!chain)
		return error_errno(err, ENOMEM, "cannot open '%s'", path);
	ret = open_links(chain, path, err);
	if (ret == 0)
		ret = chain_load_part(
			chain, SNAPSHOT_STATE_FILE, STATE_SIZE_MAX, &state, &size, err);
	if (ret == 0)
		ret = lay_out(chain, err);
	if (ret < 0)
		chain_close(chain);
	else
		*out = chain;
	return ret;
}

void chain_close(struct chain *chain)
{
	if (!chain)
		return;
	for (unsigned i = 0; i < chain->count; i++)
		close_link(&chain->links[i]);
	free(chain->links);
	free(chain->extents);
	free(chain);
}

int chain_load_part(const struct chain *chain, const char *name, uint64_t limit, uint8_t **bytes,
	size_t *size, struct error *err)
{
	int ret = load_part(chain->links, name, limit, bytes, size, err);

	return ret < 0 ? error_prefix(err, "snapshot '%s'", chain->links->path) : 0;
}

const struct chain_extent *chain_find(const struct chain *chain, uint64_t page)
{
	uint64_t low = 0, high = chain->extent_count;

	if (page >= chain->pages)
		return NULL;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		if (chain->extents[middle].first <= page)
			low = middle;
		else
			high = middle;
	}
	return &chain->extents[low];
}

/* ---- a new child's way to its parent ---- */

/* The real path of a folder that may not be there yet: its own parent must be. */
static char *real_child(const char *path)
{
	_cleanup_free_ char *copy = strdup(path), *parent = NULL;
	char *slash, *real = NULL;
	size_t len = copy ? strlen(copy) : 0;

	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = copy ? strrchr(copy, '/') : NULL;
	if (!copy)
		return NULL;
	parent = slash == copy ? strdup("/")
		 : slash       ? strndup(copy, (size_t)(slash - copy))
			       : strdup(".");
	if (parent) {
		_cleanup_free_ char *found = realpath(parent, NULL);

		if (found && asprintf(&real, "%s/%s", strcmp(found, "/") != 0 ? found : "",
				     slash ? slash + 1 : copy) < 0)
			real = NULL;
	}
	return real;
}

/* "../" for each folder of `from` below what both share, then the rest of `to`. */
static char *relative(const char *from, const char *to)
{
	size_t shared = 0, ups = 0;
	char *text, *at;

	for (size_t i = 0; from[i] && from[i] == to[i]; i++)
		if (from[i] == '/')
			shared = i + 1;
	for (const char *rest = from + shared; rest; rest = strchr(rest + 1, '/'))
		ups++;
	text = malloc(ups * 3 + strlen(to + shared) + 1);
	if (!text)
		return NULL;
	for (at = text; ups--;)
		at = stpcpy(at, "../");
	memcpy(at, to + shared, strlen(to + shared) + 1);
	return text;
}

int chain_parent_folder(const char *child, const char *parent, char **folder, struct error *err)
{
	_cleanup_free_ char *from = real_child(child);
	_cleanup_free_ char *to = realpath(parent, NULL);

	if (!from || !to)
		return error_errno(err, errno, "cannot find '%s'", from ? parent : child);
	/* Only the root is shared: they lie apart, and will hardly be moved together. */
	if (strcspn(from + 1, "/") != strcspn(to + 1, "/") ||
		strncmp(from, to, strcspn(from + 1, "/") + 1) != 0)
		*folder = strdup(to);
	else
		*folder = relative(from, to);
	return *folder ? 0 : error_errno(err, ENOMEM, "cannot name the parent '%s'", parent);
}
