/* SPDX-License-Identifier: Apache-2.0 */
/* The processor's state at a kernel's first instruction, and the tables in RAM that it refers to. */
#pragma once

#include "vmm/memory/guest_memory.h"

/* Write the GDT and the identity map of the first 4 GiB to where layout.h puts them. */
void entry_write_tables(const struct guest_memory *memory);
