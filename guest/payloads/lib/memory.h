/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is handed out once and never taken back, zeroed, from behind the payload's image. */
#pragma once

#include <stddef.h>
#include <stdint.h>

void memory_init(void);

/* `align` is a power of two. Ends the test when there is no more. */
void *memory_alloc(size_t size, size_t align);
