/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that comes and goes (ACPI 6.4 §9.11), in slots of one size, but the last: present in machines that can have more memory
 * than they start with. Where a slot is follows from the area's base and unit, which the registers tell.
 */
#include "devices/hotplug.asl"
#include "vmm/arch/x86_64/layout.h"

#define MEMORY(n)                                                                                  \
	Device (_SB.MEMS.S0##n)                                                                    \
	{                                                                                          \
		Name (_HID, EisaId ("PNP0C80"))                                                    \
		Name (_UID, 0x##n)                                                                 \
		Method (_CRS) { Return (PIEC (0x##n)) }                                            \
		SLOT_METHODS (n)                                                                   \
	}

DefinitionBlock ("memory.aml", "SSDT", 2, "BLKHD ", "BLKHMEMS", 1)
{
	Device (\_SB.MEMS)
	{
		Name (_HID, EisaId ("PNP0A06"))
		Name (_UID, "memory")
		HOTPLUG_METHODS (LAYOUT_PORT_MEMORY)
		OperationRegion (AREA, SystemIO, LAYOUT_PORT_MEMORY + 16, 24)
		Field (AREA, DWordAcc, NoLock, Preserve)
		{
			BASE, 64,
			UNIT, 64,
			TOTL, 64
		}
		Method (PIEC, 1, Serialized)
		{
			Name (PART, ResourceTemplate ()
			{
				QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
					0, 0, 0xFFFFFFFFFFFFFFFE, 0, 0xFFFFFFFFFFFFFFFF, , , RANG)
			})
			CreateQWordField (PART, RANG._MIN, FRST)
			CreateQWordField (PART, RANG._MAX, LAST)
			CreateQWordField (PART, RANG._LEN, SIZE)
			Local0 = (UNIT * Arg0)
			FRST = (BASE + Local0)
			SIZE = UNIT
			If ((TOTL - Local0) < SIZE)
			{
				SIZE = (TOTL - Local0)
			}
			LAST = ((FRST + SIZE) - 1)
			Return (PART)
		}
	}
	ALL_SLOTS (MEMORY)
}
