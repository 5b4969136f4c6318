/* SPDX-License-Identifier: Apache-2.0 */
/* The ACPI tables of a machine, as bytes. */
#pragma once

#include "vmm/memory/guest_memory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct acpi_config {
	unsigned cpus, cpus_max;	   /* there now; there at most (hot-added) */
	bool plugs_cpus;		   /* the guest is told how they come and go */
	const struct guest_memory *memory; /* with an area: it is told how memory comes and goes */
};

/*
 * Write the tables to `area`, which the guest will see at `gpa`: the RSDP first, at `gpa` itself.
 * Returns how many bytes they take; with cpus_max up to VCPUS_MAX they fit ACPI_SIZE_MAX.
 */
#define ACPI_SIZE_MAX 0xc000
size_t acpi_write(
	const struct acpi_config *config, uint8_t area[static ACPI_SIZE_MAX], uint64_t gpa);
