/* SPDX-License-Identifier: Apache-2.0 */
/* What tables need that have the members of a snapshot's options (snapshot_members.inc) among theirs. */
#pragma once

#include "vmm/transfer/snapshot.h"

#define SNAPSHOT(field)                                                                            \
	.offset = offsetof(struct snapshot_options, field),                                        \
	.size = sizeof(((struct snapshot_options *)NULL)->field)

static const struct schema_choice snapshot_disk_modes[] = {{"none", SNAPSHOT_DISK_NONE},
	{"reflink", SNAPSHOT_DISK_REFLINK}, {"copy", SNAPSHOT_DISK_COPY}, {NULL, 0}};

static const struct schema_choice snapshot_compressions[] = {
	{"none", SNAPSHOT_PLAIN}, {"zstd", SNAPSHOT_ZSTD}, {NULL, 0}};
