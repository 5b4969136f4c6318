/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of an x86_64 machine that cannot be found by looking (ACPI 6.4): the PCI host bridge,
 * serial port, clock, power button, generation id, and the event device that speaks for the last two.
 *
 * Preprocessed by the C compiler, so that every address comes from layout.h; then compiled by iasl.
 * The platform is hardware-reduced: no PM timer, no GPEs, no SCI. Interrupts of PCI functions are
 * MSI-X only, so there is no _PRT.
 */
#include "vmm/arch/x86_64/layout.h"

DefinitionBlock ("dsdt.aml", "DSDT", 2, "BLKHD ", "BULKHEAD", 1)
{
	/* In tables of their own, which not every machine has; only theirs have such events. */
	External (\_SB.CPUS.SCAN, MethodObj)
	External (\_SB.MEMS.SCAN, MethodObj)

	Name (\_S5, Package () { LAYOUT_S5_TYPE, 0, 0, 0 })

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0, 0, 1)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, LAYOUT_PCI_WINDOW, LAYOUT_PCI_WINDOW_LAST, 0,
					LAYOUT_PCI_WINDOW_SIZE)
			})

			/* The guest may keep no PCIe feature for itself: hot-plug is ACPI's, errors are nobody's. */
			Method (_OSC, 4, Serialized)
			{
				CreateDWordField (Arg3, 0, STAT)
				If (Arg0 == ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
				{
					If (SizeOf (Arg3) >= 12)
					{
						CreateDWordField (Arg3, 8, CTRL)
						If (CTRL != 0)
						{
							STAT |= 0x10 /* capabilities masked */
						}
						CTRL = 0
					}
				}
				Else
				{
					STAT |= 0x04 /* unrecognized UUID */
				}
				Return (Arg3)
			}
		}

		/* Configuration space and the registers below are taken: nothing may be put there. */
		Device (MRES)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, LAYOUT_ECAM, LAYOUT_ECAM_SIZE)
				IO (Decode16, LAYOUT_PORT_POWER, LAYOUT_PORT_POWER, 0, 8)
			})
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, LAYOUT_PORT_COM1, LAYOUT_PORT_COM1, 0, 8)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { LAYOUT_GSI_COM1 }
			})
		}

		/* Has no interrupt: alarms are the LAPIC timer's business. */
		Device (RTC)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, LAYOUT_PORT_RTC, LAYOUT_PORT_RTC, 0, 2)
			})
		}

		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
			Name (_UID, 0)
		}

		/* "Virtual Machine Generation ID", Microsoft 2012. */
		Device (VGEN)
		{
			Name (_HID, "BLKH0001")
			Name (_CID, "VM_Gen_Counter")
			Name (_DDN, "VM_Gen_Counter")
			Name (ADDR, Package () { LAYOUT_VMGENID, 0 })
		}

		/* The event device (section 5.6.9): a read of the register takes all pending events. */
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { LAYOUT_GSI_EVENT }
			})
			OperationRegion (EVTS, SystemIO, LAYOUT_PORT_EVENTS, 4)
			Field (EVTS, DWordAcc, NoLock, WriteAsZeros)
			{
				PEND, 32
			}
			Method (_EVT, 1, Serialized)
			{
				Local0 = PEND
				If (Local0 & LAYOUT_EVENT_BUTTON)
				{
					Notify (PWRB, 0x80)
				}
				If (Local0 & LAYOUT_EVENT_VMGENID)
				{
					Notify (VGEN, 0x80)
				}
				If (Local0 & LAYOUT_EVENT_CPUS)
				{
					\_SB.CPUS.SCAN ()
				}
				If (Local0 & LAYOUT_EVENT_MEMORY)
				{
					\_SB.MEMS.SCAN ()
				}
			}
		}
	}
}
