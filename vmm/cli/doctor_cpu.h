/* SPDX-License-Identifier: Apache-2.0 */
/* One file per architecture: how fast guest kernel mode runs. */
#pragma once

#include "vmm/base/error.h"

/*
 * Makes a tiny VM on `kvm_fd` and lets it count down in its most privileged mode for some ten
 * milliseconds. Stores guest instructions a second. Returns 0 or a negative errno with *err.
 */
int doctor_cpu_speed(int kvm_fd, double *speed, struct error *err);
