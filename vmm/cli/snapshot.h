/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead snapshot`: see snapshot.c. */
#pragma once

int snapshot_main(int argc, char *const *argv);
