/* SPDX-License-Identifier: Apache-2.0 */
/* An overlay and its base as one raw image that stands alone. */
#pragma once

#include "vmm/transfer/chain.h"

/*
 * Write the disk that `path` is, on `base`, to the new file `out`: what is zero is a hole; it has its name when it is whole and on the disk.
 * Both are locked against writers meanwhile. `watch` may be NULL. Waits for the disk.
 */
int disk_flatten(const char *path, const char *base, const char *out,
	const struct chain_verify_watch *watch, struct error *err);
