/* SPDX-License-Identifier: Apache-2.0 */
/* What pci.c and pci_state.c share; nobody else includes it. */
#pragma once

#include "devices/pci.h"

/* Bring the decoders in line with the command register and the BARs. Under the host's lock. */
void pci_update_bars(struct pci_function *fn);
