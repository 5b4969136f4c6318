/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that prints an error to the user. */
#pragma once

#include "vmm/base/error.h"

/*
 * "bulkhead: what failed: why (hint)" to standard error, always one line: control characters, which
 * file names and values may bring along, are shown as '?'.
 */
void cli_report(const struct error *err);
