/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The paravirtual clock (Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW): KVM
 * writes into a page of ours by what to multiply the TSC. Read once; see clock.h.
 */
#include "guest/payloads/lib/clock.h"

#include "guest/payloads/lib/cpu.h"
#include "guest/payloads/lib/memory.h"

#define KVM_SIGNATURE_LEAF 0x40000000
#define KVM_FEATURES_LEAF  0x40000001
#define KVM_CLOCKSOURCE2   (1u << 3)
#define MSR_SYSTEM_TIME	   0x4b564d01
#define SIGNATURE_KVMK	   0x4b4d564b

struct time_info {
	uint32_t version, padding;
	uint64_t tsc, system_time;
	uint32_t multiplier;
	int8_t shift;
	uint8_t flags, padding2[2];
};

/* Elsewhere (an emulator without KVM) this is a guess, good enough for time-outs. */
static uint32_t multiplier = 0x80000000;
static int shift;
static uint64_t start;

void clock_init(void)
{
	start = tsc();
	if (cpuid(KVM_SIGNATURE_LEAF, 0).b == SIGNATURE_KVMK &&
		cpuid(KVM_FEATURES_LEAF, 0).a & KVM_CLOCKSOURCE2) {
		volatile struct time_info *info = memory_alloc(sizeof(*info), 4096);

		msr_write(MSR_SYSTEM_TIME, (uint64_t)info | 1);
		if (info->multiplier) {
			multiplier = info->multiplier;
			shift = info->shift;
		}
		msr_write(MSR_SYSTEM_TIME, 0);
	}
}

uint64_t clock_ns(void)
{
	uint64_t ticks = tsc() - start;

	ticks = shift < 0 ? ticks >> -shift : ticks << shift;
	return (uint64_t)((unsigned __int128)ticks * multiplier >> 32);
}

void clock_wait_ms(unsigned ms)
{
	uint64_t until = clock_ns() + ms * 1000000ull;

	while (clock_ns() < until)
		cpu_relax();
}
