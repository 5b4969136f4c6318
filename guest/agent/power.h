/* SPDX-License-Identifier: Apache-2.0 */
/* The ACPI power button, as an input device. */
#pragma once

/* Watch every input device that has a power key; `pressed` is called for each press. */
void power_watch(void (*pressed)(void));
