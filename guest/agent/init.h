/* SPDX-License-Identifier: Apache-2.0 */
/* Process 1. */
#pragma once

/* `listen`: where the agent is to listen. Never returns. */
_Noreturn void init_main(const char *listen);
