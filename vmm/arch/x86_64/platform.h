/* SPDX-License-Identifier: Apache-2.0 */
/* The platform's devices, for platform.c and platform_state.c. */
#pragma once

#include "devices/legacy.h"
#include "devices/pci_hotplug.h"
#include "devices/pci_ports.h"
#include "devices/power.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "devices/vmgenid.h"
#include "vmm/arch/arch.h"

struct arch_platform {
	struct arch_platform_config config;
	struct arch_address_map map;
	struct serial serial;
	struct rtc rtc;
	struct power power;
	struct hotplug_slots cpus, memory;
	struct pci_hotplug hotplug;
	struct legacy legacy;
	struct pci_ports pci_ports;
	struct vmgenid vmgenid;
};
