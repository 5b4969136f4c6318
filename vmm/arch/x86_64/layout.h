/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one map of an x86_64 machine: what sits where, in guest physical memory, on the I/O ports and
 * on the interrupt pins. Only #defines, without suffixes: the ASL sources are preprocessed with it too.
 *
 *   0x00000000  RAM: boot structures (below 0x40000), then the guest's own
 *   0x0009fc00  RAM that the memory map calls reserved: where Linux looks for the tables of old
 *               firmware. The search reads plain RAM, finds nothing and costs no exit. ACPI tables
 *               and the generation id are here.
 *   0x00100000  RAM: the kernel goes where it wants to be; the initrd at the top
 *   0xc0000000  PCI memory window (32-bit BARs)
 *   0xe0000000  ECAM: configuration space of PCI bus 0, 1 MiB
 *   0xfec00000  I/O APIC, 0xfee00000 local APIC (both inside KVM)
 *   0xfffbc000  pages that KVM needs on Intel CPUs to run real mode
 *   0x100000000 RAM: what is above 3 GiB; behind it, from the next multiple of 2 GiB, the area where memory is hot-added
 */
#pragma once

/* RAM and its hole. */
#define LAYOUT_LOW_RAM_END    0xc0000000
#define LAYOUT_HIGH_RAM_START 0x100000000
#define LAYOUT_RAM_MIN	      0x1000000 /* 16 MiB */
/* 46-bit guest physical addresses: what every x86-64-v2 server CPU can do, with room for devices. */
#define LAYOUT_RAM_MAX 0x200000000000 /* 32 TiB */

/* Boot structures, all below what the memory map calls usable (the kernel may take them later). */
#define LAYOUT_GDT	      0x500
#define LAYOUT_PVH_INFO	      0x6000 /* hvm_start_info, its module list and its memory map: one page */
#define LAYOUT_ZERO_PAGE      0x7000
#define LAYOUT_BOOT_STACK     0x9000 /* grows down */
#define LAYOUT_PAGE_TABLES    0x9000 /* PML4, PDPT, four page directories */
#define LAYOUT_CMDLINE	      0x20000
#define LAYOUT_CMDLINE_SIZE   0x800 /* with its NUL: Linux's COMMAND_LINE_SIZE on x86 */
#define LAYOUT_USABLE_LOW_END 0x9fc00
#define LAYOUT_VMGENID	      0xdf000 /* a page of its own */
#define LAYOUT_ACPI	      0xe0000 /* RSDP first */
#define LAYOUT_ACPI_END	      0xf0000 /* 0xf0000: searched for tables of old firmware, left empty */
#define LAYOUT_KERNEL_MIN     0x100000

/* PCI. */
#define LAYOUT_PCI_WINDOW      0xc0000000
#define LAYOUT_PCI_WINDOW_SIZE 0x20000000
#define LAYOUT_PCI_WINDOW_LAST 0xdfffffff
#define LAYOUT_ECAM	       0xe0000000
#define LAYOUT_ECAM_SIZE       0x100000

/* Interrupt controllers, at the addresses KVM gives them. */
#define LAYOUT_IOAPIC 0xfec00000
#define LAYOUT_LAPIC  0xfee00000

/* KVM's own pages: one for an identity map, three for a TSS (KVM API §4.34, §4.41). */
#define LAYOUT_KVM_IDENTITY_MAP 0xfffbc000
#define LAYOUT_KVM_TSS		0xfffbd000

/* I/O ports; devices/ has the same numbers in its headers, checked by acpi.c. */
#define LAYOUT_PORT_COM1	  0x3f8
#define LAYOUT_PORT_RTC		  0x70
#define LAYOUT_PORT_POWER	  0x600 /* eight ports, the four registers below */
#define LAYOUT_PORT_SLEEP_CONTROL 0x600
#define LAYOUT_PORT_SLEEP_STATUS  0x601
#define LAYOUT_PORT_RESET	  0x602
#define LAYOUT_PORT_EVENTS	  0x604
#define LAYOUT_RESET_VALUE	  1
#define LAYOUT_S5_TYPE		  5
#define LAYOUT_EVENT_BUTTON	  0x1
#define LAYOUT_EVENT_VMGENID	  0x2
#define LAYOUT_EVENT_CPUS	  0x8
#define LAYOUT_EVENT_MEMORY	  0x10
#define LAYOUT_PORT_MEMORY	  0x640 /* 40 ports, likewise */
#define LAYOUT_PORT_CPUS	  0x620 /* 16 ports, devices/hotplug_slots.h */
#define LAYOUT_EVENT_PCI	  0x4
#define LAYOUT_PORT_PCI_HOTPLUG	  0x610 /* 16 ports */
#define LAYOUT_PCI_CHECK	  0 /* what the slots are notified with: Bus Check, Ejection Request */
#define LAYOUT_PCI_EJECT	  3
#define LAYOUT_RTC_CENTURY	  0x32 /* index of the century byte */

/* Interrupt pins of the I/O APIC, all edge-triggered. */
#define LAYOUT_GSI_COM1	 4
#define LAYOUT_GSI_EVENT 9
