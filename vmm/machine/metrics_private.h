/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics' insides, for the files metrics*.c. */
#pragma once

#include "vmm/machine/metrics.h"

#include <stdio.h>

/* The series that are no device's: at most so many. metrics_devices.c gives out what is left. */
#define METRICS_MACHINE_SERIES 45

/* What stands before the series of a family. */
void metrics_family(FILE *to, const char *name, const char *type, const char *help);

/* metrics_devices.c */
void metrics_print_devices(FILE *to, const struct machine *m);
