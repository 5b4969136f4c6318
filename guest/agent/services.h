/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services of process 1: what /etc/bulkhead/services.d says is to run. See services.c for the files.
 */
#pragma once

#include "vmm/base/error.h"

#include <stdbool.h>

#define SERVICES_MAX 64

/* Read the files (one line on the console for each bad one), put them in order and begin to start them. */
void services_start(const char *folder);

/* The agent itself, supervised like a service that is always started again and is none of those to be ended. */
int services_add_agent(char *const *argv);

/* End them all in reverse order, within about `timeout_ms`; then `done` is called. */
void services_stop(unsigned timeout_ms, void (*done)(void));
