/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processors that come and go (ACPI 6.4 §8.4): present in machines that can have more processors than they start with.
 * _MAT (§6.2.10) is the processor's entry of the MADT (§5.2.12.2), which the guest takes the APIC id of a new one from.
 */
#include "devices/hotplug.asl"
#include "vmm/arch/x86_64/layout.h"

#define CPU(n)                                                                                     \
	Device (_SB.CPUS.S0##n)                                                                    \
	{                                                                                          \
		Name (_HID, "ACPI0007")                                                            \
		Name (_UID, 0x##n)                                                                 \
		Method (_MAT) { Return (LAPC (0x##n)) }                                            \
		SLOT_METHODS (n)                                                                   \
	}

DefinitionBlock ("cpus.aml", "SSDT", 2, "BLKHD ", "BLKHCPUS", 1)
{
	Device (\_SB.CPUS)
	{
		Name (_HID, "ACPI0010")
		Name (_CID, EisaId ("PNP0A05"))
		HOTPLUG_METHODS (LAYOUT_PORT_CPUS)
		Method (LAPC, 1, Serialized)
		{
			Local0 = Buffer (8) { 0, 8, 0, 0, 0, 0, 0, 0 }
			Local0 [2] = Arg0
			Local0 [3] = Arg0
			Local0 [4] = HERE (Arg0)
			Return (Local0)
		}
	}
	ALL_SLOTS (CPU)
}
