/* SPDX-License-Identifier: Apache-2.0 */
/* What `inspect` and `chain` share: how a snapshot is told in words and in JSON, and a line of progress. */
#pragma once

#include "vmm/transfer/chain.h"

/* "2026-11-22 01:02:03", UTC. */
const char *snapshot_time(uint64_t ns, char text[32]);
/* "full", "incremental", with "background" before it, and ", zstd" behind it where so. */
const char *snapshot_kind_words(const struct snapshot_manifest *manifest, char text[48]);
/* "1.5 GiB" */
const char *snapshot_size(uint64_t bytes, char text[32]);
uint64_t snapshot_memory_size(const struct snapshot_manifest *manifest);
/* What a part takes on the disk; 0 where it is not there. */
uint64_t snapshot_part_usage(int dir, const char *name);
/* The same for all that is in the folder of a link. */
uint64_t snapshot_usage(const struct chain_link *link);

/* One link as JSON: {"folder", "id", "parent", "created_ns", ...}. A new reference. */
json_t *snapshot_link_json(const struct chain_link *link);

/* "verify  43 %" on a terminal's line of its own; nothing elsewhere. `owner` of the watch is the word. */
struct chain_verify_watch snapshot_watch(const char *word);
/* Ends the line, if there was one. */
void snapshot_watch_end(void);

int inspect_main(int argc, char *const *argv);
int chain_main(int argc, char *const *argv);
