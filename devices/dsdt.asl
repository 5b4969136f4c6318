/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of an x86_64 machine that cannot be found by looking (ACPI 6.4): the PCI host bridge,
 * serial port, clock, power button, generation id, the slots that devices may come to and go from, and the event device that
 * speaks for the last three.
 *
 * Preprocessed by the C compiler, so that every address comes from layout.h; then compiled by iasl.
 * The platform is hardware-reduced: no PM timer, no GPEs, no SCI. Interrupts of PCI functions are
 * MSI-X only, so there is no _PRT.
 */
#include "vmm/arch/x86_64/layout.h"

/* A slot of bus 0: NUMBER, its address as _ADR has it, its bit in the registers. */
#define SLOT(NAME, NUMBER, ADDRESS, BIT)                                                           \
	Device (NAME)                                                                              \
	{                                                                                          \
		Name (_ADR, ADDRESS)                                                               \
		Name (_SUN, NUMBER)                                                                \
		Method (_EJ0, 1, Serialized) { EJSL = BIT }                                        \
		Method (_OST, 3, Serialized)                                                       \
		{                                                                                  \
			OSSL = ((NUMBER | ((Arg0 & 0xff) << 8)) | ((Arg1 & 0xffff) << 16))         \
		}                                                                                  \
	}
#define ASK(NAME, BIT) If (Arg0 & BIT) { Notify (NAME, Arg1) }

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

			/* Hot-plug (sections 5.6.6, 6.3): devices/pci_hotplug.h has the registers. */
			OperationRegion (HOTP, SystemIO, LAYOUT_PORT_PCI_HOTPLUG, 16)
			Field (HOTP, DWordAcc, NoLock, WriteAsZeros)
			{
				UPSL, 32,
				DNSL, 32,
				EJSL, 32,
				OSSL, 32
			}
			SLOT (S01, 1, 0x00010000, 0x00000002)
			SLOT (S02, 2, 0x00020000, 0x00000004)
			SLOT (S03, 3, 0x00030000, 0x00000008)
			SLOT (S04, 4, 0x00040000, 0x00000010)
			SLOT (S05, 5, 0x00050000, 0x00000020)
			SLOT (S06, 6, 0x00060000, 0x00000040)
			SLOT (S07, 7, 0x00070000, 0x00000080)
			SLOT (S08, 8, 0x00080000, 0x00000100)
			SLOT (S09, 9, 0x00090000, 0x00000200)
			SLOT (S10, 10, 0x000A0000, 0x00000400)
			SLOT (S11, 11, 0x000B0000, 0x00000800)
			SLOT (S12, 12, 0x000C0000, 0x00001000)
			SLOT (S13, 13, 0x000D0000, 0x00002000)
			SLOT (S14, 14, 0x000E0000, 0x00004000)
			SLOT (S15, 15, 0x000F0000, 0x00008000)
			SLOT (S16, 16, 0x00100000, 0x00010000)
			SLOT (S17, 17, 0x00110000, 0x00020000)
			SLOT (S18, 18, 0x00120000, 0x00040000)
			SLOT (S19, 19, 0x00130000, 0x00080000)
			SLOT (S20, 20, 0x00140000, 0x00100000)
			SLOT (S21, 21, 0x00150000, 0x00200000)
			SLOT (S22, 22, 0x00160000, 0x00400000)
			SLOT (S23, 23, 0x00170000, 0x00800000)
			SLOT (S24, 24, 0x00180000, 0x01000000)
			SLOT (S25, 25, 0x00190000, 0x02000000)
			SLOT (S26, 26, 0x001A0000, 0x04000000)
			SLOT (S27, 27, 0x001B0000, 0x08000000)
			SLOT (S28, 28, 0x001C0000, 0x10000000)
			SLOT (S29, 29, 0x001D0000, 0x20000000)
			SLOT (S30, 30, 0x001E0000, 0x40000000)
			SLOT (S31, 31, 0x001F0000, 0x80000000)

			/* Notify the slots of Arg0 with Arg1. */
			Method (TELL, 2, Serialized)
			{
				ASK (S01, 0x00000002)
				ASK (S02, 0x00000004)
				ASK (S03, 0x00000008)
				ASK (S04, 0x00000010)
				ASK (S05, 0x00000020)
				ASK (S06, 0x00000040)
				ASK (S07, 0x00000080)
				ASK (S08, 0x00000100)
				ASK (S09, 0x00000200)
				ASK (S10, 0x00000400)
				ASK (S11, 0x00000800)
				ASK (S12, 0x00001000)
				ASK (S13, 0x00002000)
				ASK (S14, 0x00004000)
				ASK (S15, 0x00008000)
				ASK (S16, 0x00010000)
				ASK (S17, 0x00020000)
				ASK (S18, 0x00040000)
				ASK (S19, 0x00080000)
				ASK (S20, 0x00100000)
				ASK (S21, 0x00200000)
				ASK (S22, 0x00400000)
				ASK (S23, 0x00800000)
				ASK (S24, 0x01000000)
				ASK (S25, 0x02000000)
				ASK (S26, 0x04000000)
				ASK (S27, 0x08000000)
				ASK (S28, 0x10000000)
				ASK (S29, 0x20000000)
				ASK (S30, 0x40000000)
				ASK (S31, 0x80000000)
			}
			Method (PLUG, 0, Serialized)
			{
				/* Bus Check: look at this slot. On a Device Check Linux looks at all others too, 120 exits. */
				TELL (UPSL, LAYOUT_PCI_CHECK)
				TELL (DNSL, LAYOUT_PCI_EJECT)
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
				IO (Decode16, LAYOUT_PORT_PCI_HOTPLUG, LAYOUT_PORT_PCI_HOTPLUG, 0, 16)
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
				If (Local0 & LAYOUT_EVENT_PCI)
				{
					\_SB.PCI0.PLUG ()
				}
			}
		}
	}
}
