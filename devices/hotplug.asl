/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the ACPI devices of hot-plugged processors and memory share: the registers of devices/hotplug_slots.h, and the
 * methods over them. For the ASL sources, which define CONTAINER and SLOT(n) (n: two hexadecimal digits): slot n is
 * the device S0nn in the container.
 *
 * The slots stand behind the container, at the end of the table, one behind the other in the order of their numbers: so the
 * table can be cut behind the last that a machine has (vmm/arch/x86_64/acpi.c).
 */
#define SIXTEEN(X, d)                                                                              \
	X (d##0) X (d##1) X (d##2) X (d##3) X (d##4) X (d##5) X (d##6) X (d##7)                     \
	X (d##8) X (d##9) X (d##A) X (d##B) X (d##C) X (d##D) X (d##E) X (d##F)
#define ALL_SLOTS(X) SIXTEEN (X, 0) SIXTEEN (X, 1) SIXTEEN (X, 2) SIXTEEN (X, 3)

#define NOTIFY_SLOT(n) If (Arg0 == 0x##n) { Notify (S0##n, Arg1) }

#define HOTPLUG_METHODS(PORT)                                                                      \
	Name (_CRS, ResourceTemplate () { IO (Decode16, PORT, PORT, 0, 16) })                      \
	OperationRegion (REGS, SystemIO, PORT, 16)                                                 \
	Field (REGS, DWordAcc, NoLock, WriteAsZeros)                                               \
	{                                                                                          \
		PRES, 64,                                                                          \
		NEXT, 32,                                                                          \
		EJCT, 32                                                                           \
	}                                                                                          \
	Method (HERE, 1, Serialized)                                                               \
	{                                                                                          \
		Return ((PRES >> Arg0) & 1)                                                        \
	}                                                                                          \
	Method (STAT, 1, Serialized)                                                               \
	{                                                                                          \
		If (HERE (Arg0)) { Return (0x0F) }                                                 \
		Return (0)                                                                         \
	}                                                                                          \
	Method (GONE, 1, Serialized)                                                               \
	{                                                                                          \
		EJCT = Arg0                                                                        \
	}                                                                                          \
	Method (DONE, 3, Serialized)                                                               \
	{                                                                                          \
		NEXT = ((Arg0 | ((Arg1 & 0xFF) << 8)) | ((Arg2 & 0xFF) << 16))                     \
	}                                                                                          \
	Method (TELL, 2, Serialized)                                                               \
	{                                                                                          \
		ALL_SLOTS (NOTIFY_SLOT)                                                                   \
	}                                                                                          \
	Method (SCAN, 0, Serialized)                                                               \
	{                                                                                          \
		Local0 = NEXT                                                                      \
		While (Local0 != 0xFFFFFFFF)                                                       \
		{                                                                                  \
			TELL ((Local0 & 0xFF), (Local0 >> 8))                                      \
			Local0 = NEXT                                                              \
		}                                                                                  \
	}

#define SLOT_METHODS(n)                                                                            \
	Method (_STA) { Return (STAT (0x##n)) }                                                    \
	Method (_EJ0, 1) { GONE (0x##n) }                                                          \
	Method (_OST, 3) { DONE (0x##n, Arg0, Arg1) }
