/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead disk`: images that are overlays on a base (create, info, check), and as one raw image again (flatten).
 *
 * What a file says of itself is shown, and never followed: a guest can write an overlay's header into its raw disk, naming any file of
 * the host as its base. So the base that is read is the one on the command line.
 */
#include "vmm/cli/disk.h"

#include "virtio/blk_overlay.h"
#include "vmm/base/util.h"
#include "vmm/cli/arguments.h"
#include "vmm/cli/commands.h"
#include "vmm/cli/help.h"
#include "vmm/cli/report.h"
#include "vmm/cli/snapshots.h"
#include "vmm/transfer/disk_flatten.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* What is said of one image. */
struct image {
	const char *path;
	int fd;
	bool overlay, in_use;
	uint64_t size, allocated; /* of the disk, bytes; what the file takes on the host's disk */
	struct blk_overlay_info info;
};

/* ---- looking at one ---- */

static bool is_in_use(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Anything but a file or a volume is refused before it is opened: that may have effects of its own. */
static int open_image(struct image *image, const char *path, struct error *err)
{
	struct stat st;
	off_t end;

	*image = (struct image){.path = path, .fd = -1};
	if (stat(path, &st) < 0)
		return error_errno(err, errno, "cannot open '%s'", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(
			err, ERROR_BAD_REQUEST, "'%s' is not a disk image or a block device", path);
	image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (image->fd < 0 || fstat(image->fd, &st) < 0)
		return error_errno(err, errno, "cannot open '%s'", path);
	end = lseek(image->fd, 0, SEEK_END);
	if (end < 0)
		return error_errno(err, errno, "cannot find out the size of '%s'", path);
	image->size = (uint64_t)end;
	image->allocated = S_ISBLK(st.st_mode) ? image->size : (uint64_t)st.st_blocks * 512;
	image->in_use = is_in_use(image->fd);
	image->overlay = blk_overlay_seems(image->fd);
	return 0;
}

static int look(struct image *image, const char *path, const char *base, struct error *err)
{
	int ret = open_image(image, path, err);

	if (ret == 0 && (image->overlay || base))
		ret = blk_overlay_inspect(image->fd, path, base, &image->info, err);
	if (ret == 0 && image->overlay)
		image->size = image->info.size;
	return ret;
}

/* ---- telling of it ---- */

static void print_bytes(const char *word, uint64_t bytes)
{
	char size[32];

	printf("%-13s %" PRIu64 " (%s)\n", word, bytes, snapshot_size(bytes, size));
}

/* Bytes of a file that anyone may have written: nothing for a terminal. */
static void print_made_on(const char *name)
{
	printf("made on       ");
	for (; *name; name++)
		putchar((unsigned char)*name < 0x20 || *name == 0x7f ? '?' : *name);
	putchar('\n');
}

static void print_text(const struct image *image, const struct image *base)
{
	const struct blk_overlay_info *info = &image->info;

	printf("image         %s\n", image->path);
	printf("format        %s\n", image->overlay ? "overlay" : "raw");
	print_bytes("size", image->size);
	print_bytes("allocated", image->allocated);
	if (image->overlay) {
		printf("own clusters  %" PRIu64 " of %" PRIu64 ", of %u KiB\n", info->own,
			info->clusters, BLK_OVERLAY_CLUSTER / 1024);
		printf("stray         %" PRIu64 " clusters of writes that were never flushed\n",
			info->stray);
		print_made_on(info->base);
		print_bytes("base size", info->base_size);
	}
	printf("in use        %s\n", image->in_use ? "yes" : "no");
	if (!base)
		return;
	printf("base          %s\n", base->path);
	print_bytes("base takes", base->allocated);
}

/* A name that is no UTF-8 is null. */
static json_t *text_json(const char *text)
{
	return json_string(text) ?: json_null();
}

static json_t *link_json(const struct image *image)
{
	return json_pack("{s:o, s:s, s:I, s:I}", "path", text_json(image->path), "format",
		image->overlay ? "overlay" : "raw", "size", (json_int_t)image->size, "allocated",
		(json_int_t)image->allocated);
}

static void print_json(const struct image *image, const struct image *base)
{
	const struct blk_overlay_info *info = &image->info;
	json_t *object = link_json(image), *chain = json_array();

	json_array_append_new(chain, link_json(image));
	if (base)
		json_array_append_new(chain, link_json(base));
	json_object_set_new(object, "in_use", json_boolean(image->in_use));
	if (image->overlay) {
		json_object_set_new(object, "cluster", json_integer(BLK_OVERLAY_CLUSTER));
		json_object_set_new(object, "clusters", json_integer((json_int_t)info->clusters));
		json_object_set_new(object, "own_clusters", json_integer((json_int_t)info->own));
		json_object_set_new(
			object, "stray_clusters", json_integer((json_int_t)info->stray));
		json_object_set_new(object, "made_on", text_json(info->base));
		json_object_set_new(object, "base_size", json_integer((json_int_t)info->base_size));
	}
	json_object_set_new(object, "chain", chain);
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(object);
}

static int show(const char *path, const struct disk_tool_options *options, struct error *err)
{
	struct image image = {.fd = -1}, base = {.fd = -1};
	int ret = look(&image, path, options->base, err);

	if (ret == 0 && options->base)
		ret = open_image(&base, options->base, err);
	if (ret == 0 && options->json)
		print_json(&image, options->base ? &base : NULL);
	else if (ret == 0)
		print_text(&image, options->base ? &base : NULL);
	cleanup_close(&image.fd);
	cleanup_close(&base.fd);
	return ret;
}

/* ---- the actions ---- */

/* It would be read as the raw bytes that it is: an accident, not a wish. */
static int refuse_overlay_as_base(const char *path, struct error *err)
{
	struct image base = {.fd = -1};
	int ret = open_image(&base, path, err);

	if (ret == 0 && base.overlay) {
		error_set(err, ERROR_BAD_REQUEST,
			"'%s' looks like an overlay: a base is a raw image", path);
		ret = error_hint(err, "make it one: bulkhead disk flatten");
	}
	cleanup_close(&base.fd);
	return ret;
}

static int create(char *const *words, const struct disk_tool_options *options, struct error *err)
{
	int ret = refuse_overlay_as_base(options->base, err);

	return ret ?: blk_overlay_create(words[0], options->base, options->size, err);
}

static int info(char *const *words, const struct disk_tool_options *options, struct error *err)
{
	return show(words[0], options, err);
}

static int check(char *const *words, const struct disk_tool_options *options, struct error *err)
{
	struct image image = {.fd = -1};
	int ret = open_image(&image, words[0], err);

	if (ret == 0)
		ret = blk_overlay_inspect(image.fd, words[0], options->base, &image.info, err);
	cleanup_close(&image.fd);
	if (ret < 0)
		return ret;
	if (options->json)
		return show(words[0], options, err);
	printf("'%s' is right%s\n", words[0],
		options->base ? ", and so is its base" : " (its base was not looked at: --base)");
	return 0;
}

static atomic_bool stopped;

static void stop(int number)
{
	(void)number;
	atomic_store(&stopped, true);
}

/* Who stops it shall not find half a disk under another name. */
static int flatten(char *const *words, const struct disk_tool_options *options, struct error *err)
{
	struct chain_verify_watch watch = snapshot_watch("flatten");
	const struct sigaction action = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	int ret;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
	watch.cancel = &stopped;
	ret = disk_flatten(words[0], options->base, words[1], &watch, err);
	snapshot_watch_end();
	return ret;
}

/* ---- the command ---- */

static const struct action {
	const char *name;
	int (*run)(char *const *words, const struct disk_tool_options *options, struct error *err);
	unsigned words;
	bool wants_base, takes_size, takes_json;
	const char *wanted;
} actions[] = {
	{"create", create, 1, true, true, false, "a new file and --base FILE are wanted"},
	{"info", info, 1, false, false, true, "one image is wanted"},
	{"check", check, 1, false, false, true, "one overlay is wanted"},
	{"flatten", flatten, 2, true, false, false,
		"an overlay, a new file and --base FILE are wanted"},
};

static const struct action *find_action(char *const *words, unsigned count, struct error *err)
{
	for (unsigned i = 0; count && i < ARRAY_SIZE(actions); i++)
		if (!strcmp(words[0], actions[i].name))
			return &actions[i];
	error_set(err, ERROR_BAD_REQUEST,
		"disk: one of create, info, check, flatten is wanted (see bulkhead disk --help)");
	return NULL;
}

static const struct action *choose(char *const *words, unsigned count,
	const struct disk_tool_options *options, struct error *err)
{
	const struct action *action = find_action(words, count, err);

	if (!action)
		return NULL;
	if (count == action->words + 1 && (!action->wants_base || options->base) &&
		(action->takes_size || !options->size) && (action->takes_json || !options->json))
		return action;
	if (options->size && !action->takes_size)
		error_set(err, ERROR_BAD_REQUEST, "disk %s: takes no --size", action->name);
	else if (options->json && !action->takes_json)
		error_set(err, ERROR_BAD_REQUEST, "disk %s: takes no --json", action->name);
	else
		error_set(err, ERROR_BAD_REQUEST, "disk %s: %s", action->name, action->wanted);
	return NULL;
}

int disk_main(int argc, char *const *argv)
{
	_cleanup_free_ char **words = calloc((size_t)argc + 1, sizeof(*words));
	struct disk_tool_options options = {0};
	const struct action *action = NULL;
	struct error err;
	unsigned count = 0;
	bool help = false;
	int ret = words ? cli_arguments(commands[COMMAND_DISK].options, argc, argv, &options, words,
				  &count, &help, &err)
			: error_set(&err, ERROR_NO_RESOURCE, "no memory");

	if (ret == 0 && help) {
		help_print_command(stdout, &commands[COMMAND_DISK]);
		return CLI_OK;
	}
	if (ret == 0)
		action = choose(words, count, &options, &err);
	ret = action ? action->run(words + 1, &options, &err) : -1;
	free(options.base);
	if (ret == 0)
		return CLI_OK;
	cli_report(&err);
	return action ? CLI_FAILED : CLI_USAGE;
}
