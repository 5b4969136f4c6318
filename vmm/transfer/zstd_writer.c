/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing compressed frames: see zstd_frames.h. A thread takes a context from a pool, gathers and compresses without a lock,
 * takes the next place in the file by one atomic addition, and writes there. Only the entry is put down under the lock.
 */
#include "vmm/base/util.h"
#include "vmm/transfer/memory_layout.h"
#include "vmm/transfer/zstd_private.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <zstd.h>

#define BLOCK_SIZE (ZSTD_BLOCK_PAGES * GUEST_PAGE_SIZE)

struct context {
	struct context *next;
	ZSTD_CCtx *zstd;
	uint8_t *in, *out;
	size_t room; /* of `out` */
};

struct zstd_writer {
	int fd;
	int level;
	uint64_t pages;
	_Atomic uint64_t end; /* where the next frame goes */
	pthread_mutex_t lock; /* of all below */
	struct context *free;
	struct zstd_entry *entries;
	uint64_t count, room;
};

int zstd_writer_create(
	struct zstd_writer **out, int fd, uint64_t pages, int level, struct error *err)
{
	struct zstd_writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		return error_errno(err, ENOMEM, "cannot compress");
	writer->fd = fd;
	writer->pages = pages;
	writer->level = level;
	pthread_mutex_init(&writer->lock, NULL);
	*out = writer;
	return 0;
}

static void context_free(struct context *context)
{
	if (!context)
		return;
	ZSTD_freeCCtx(context->zstd);
	free(context->in);
	free(context->out);
	free(context);
}

void zstd_writer_destroy(struct zstd_writer *writer)
{
	if (!writer)
		return;
	for (struct context *next; writer->free; writer->free = next) {
		next = writer->free->next;
		context_free(writer->free);
	}
	pthread_mutex_destroy(&writer->lock);
	free(writer->entries);
	free(writer);
}

static struct context *context_make(const struct zstd_writer *writer)
{
	struct context *context = calloc(1, sizeof(*context));

	if (!context)
		return NULL;
	context->room = ZSTD_compressBound(BLOCK_SIZE);
	context->zstd = ZSTD_createCCtx();
	context->in = malloc(BLOCK_SIZE);
	context->out = malloc(context->room);
	if (context->zstd && context->in && context->out &&
		!ZSTD_isError(ZSTD_CCtx_setParameter(
			context->zstd, ZSTD_c_compressionLevel, writer->level)) &&
		!ZSTD_isError(ZSTD_CCtx_setParameter(context->zstd, ZSTD_c_checksumFlag, 1)))
		return context;
	context_free(context);
	return NULL;
}

static struct context *context_take(struct zstd_writer *writer)
{
	struct context *context;

	pthread_mutex_lock(&writer->lock);
	context = writer->free;
	if (context)
		writer->free = context->next;
	pthread_mutex_unlock(&writer->lock);
	return context ? context : context_make(writer);
}

static void context_give(struct zstd_writer *writer, struct context *context)
{
	pthread_mutex_lock(&writer->lock);
	context->next = writer->free;
	writer->free = context;
	pthread_mutex_unlock(&writer->lock);
}

static int add_entry(struct zstd_writer *writer, const struct zstd_entry *entry, struct error *err)
{
	int ret = 0;

	pthread_mutex_lock(&writer->lock);
	if (writer->count == writer->room) {
		uint64_t room = writer->room ? writer->room * 2 : 64;
		void *more = reallocarray(writer->entries, room, sizeof(*writer->entries));

		if (more) {
			writer->entries = more;
			writer->room = room;
		} else {
			ret = error_errno(err, ENOMEM, "cannot keep the index of frames");
		}
	}
	if (ret == 0)
		writer->entries[writer->count++] = *entry;
	pthread_mutex_unlock(&writer->lock);
	return ret;
}

static size_t gather(uint8_t *to, const uint8_t *host, const uint64_t pages[])
{
	size_t size = 0;

	for (unsigned i = 0; i < ZSTD_BLOCK_PAGES; i++)
		if (pages[i / 64] >> (i % 64) & 1) {
			memcpy(to + size, host + (size_t)i * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
			size += GUEST_PAGE_SIZE;
		}
	return size;
}

static int put(struct zstd_writer *writer, struct context *context, uint64_t first,
	const uint8_t *host, const uint64_t pages[], struct error *err)
{
	struct zstd_entry entry = {.first = first};
	size_t size = gather(context->in, host, pages);
	int ret;

	memcpy(entry.pages, pages, sizeof(entry.pages));
	size = ZSTD_compress2(context->zstd, context->out, context->room, context->in, size);
	if (ZSTD_isError(size))
		return error_set(
			err, ERROR_INTERNAL, "cannot compress: %s", ZSTD_getErrorName(size));
	entry.size = (uint32_t)size;
	entry.offset = atomic_fetch_add(&writer->end, size);
	ret = file_write(writer->fd, context->out, size, entry.offset, ZSTD_FILE, err);
	return ret ?: add_entry(writer, &entry, err);
}

int zstd_writer_put(struct zstd_writer *writer, uint64_t first, const uint8_t *host,
	const uint64_t pages[ZSTD_BLOCK_PAGES / 64], struct error *err)
{
	struct context *context = context_take(writer);
	int ret;

	if (!context)
		return error_errno(err, ENOMEM, "cannot compress");
	ret = put(writer, context, first, host, pages, err);
	context_give(writer, context);
	return ret;
}

uint64_t zstd_writer_size(const struct zstd_writer *writer)
{
	return atomic_load(&writer->end);
}

static int compare(const void *a, const void *b)
{
	const struct zstd_entry *x = a, *y = b;

	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

int zstd_writer_finish(
	struct zstd_writer *writer, uint64_t *size, struct checksum *sum, struct error *err)
{
	size_t bytes =
		writer->count * sizeof(struct zstd_disk_entry) + sizeof(struct zstd_disk_end);
	uint64_t at = atomic_load(&writer->end);
	_cleanup_free_ uint8_t *index = calloc(1, bytes);
	struct zstd_disk_entry *entries = (void *)index;
	struct zstd_disk_end *end;

	if (!index)
		return error_errno(err, ENOMEM, "cannot write the index of frames");
	if (writer->count)
		qsort(writer->entries, writer->count, sizeof(*writer->entries), compare);
	for (uint64_t i = 0; i < writer->count; i++) {
		const struct zstd_entry *e = &writer->entries[i];

		entries[i].first = htole64(e->first);
		entries[i].offset = htole64(e->offset);
		entries[i].size = htole32(e->size);
		for (unsigned j = 0; j < ARRAY_SIZE(e->pages); j++)
			entries[i].pages[j] = htole64(e->pages[j]);
	}
	end = (void *)(entries + writer->count);
	memcpy(end->magic, ZSTD_MAGIC, sizeof(end->magic));
	end->pages = htole64(writer->pages);
	end->count = htole64(writer->count);
	*size = at + bytes;
	*sum = checksum_of(index, bytes);
	return file_write(writer->fd, index, bytes, at, ZSTD_FILE, err);
}
