/* SPDX-License-Identifier: Apache-2.0 */
/* What of bench.elf has a file of its own. */
#pragma once

void bench_snapshot(void);
