/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers of an x86_64 vCPU as gdb knows them (GDB manual §G.5.14 "i386 Features"): one table from which come the description
 * and the place of each in the bytes of a `g` packet, which `struct registers` lays out.
 *
 * The system registers beyond gdb's own features are named as other stubs name them. Selectors can be read only: one alone
 * means nothing without its descriptor.
 */
#include "vmm/arch/gdb.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

struct __attribute__((packed)) registers {
	uint64_t general[16]; /* as the table orders them */
	uint64_t rip;
	uint32_t eflags, cs, ss, ds, es, fs, gs;
	uint8_t st[8][10];
	uint32_t fctrl, fstat, ftag, fiseg, fioff, foseg, fooff, fop;
	uint8_t xmm[16][16];
	uint32_t mxcsr;
	uint64_t fs_base, gs_base;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer;
};

_Static_assert(sizeof(struct registers) <= ARCH_GDB_REGISTERS_MAX, "room for all registers");

/* `count` of them, numbered behind the name where they are several. */
static const struct group {
	const char *feature; /* NULL: as the one before */
	const char *name;
	unsigned count, bits;
	const char *type;
	const char *group; /* NULL: by its type */
} groups[] = {
	{"org.gnu.gdb.i386.core", "rax", 1, 64, "int64", NULL},
	{NULL, "rbx", 1, 64, "int64", NULL},
	{NULL, "rcx", 1, 64, "int64", NULL},
	{NULL, "rdx", 1, 64, "int64", NULL},
	{NULL, "rsi", 1, 64, "int64", NULL},
	{NULL, "rdi", 1, 64, "int64", NULL},
	{NULL, "rbp", 1, 64, "data_ptr", NULL},
	{NULL, "rsp", 1, 64, "data_ptr", NULL},
	{NULL, "r8", 1, 64, "int64", NULL},
	{NULL, "r9", 1, 64, "int64", NULL},
	{NULL, "r10", 1, 64, "int64", NULL},
	{NULL, "r11", 1, 64, "int64", NULL},
	{NULL, "r12", 1, 64, "int64", NULL},
	{NULL, "r13", 1, 64, "int64", NULL},
	{NULL, "r14", 1, 64, "int64", NULL},
	{NULL, "r15", 1, 64, "int64", NULL},
	{NULL, "rip", 1, 64, "code_ptr", NULL},
	{NULL, "eflags", 1, 32, "int32", NULL},
	{NULL, "cs", 1, 32, "int32", NULL},
	{NULL, "ss", 1, 32, "int32", NULL},
	{NULL, "ds", 1, 32, "int32", NULL},
	{NULL, "es", 1, 32, "int32", NULL},
	{NULL, "fs", 1, 32, "int32", NULL},
	{NULL, "gs", 1, 32, "int32", NULL},
	{NULL, "st", 8, 80, "i387_ext", NULL},
	{NULL, "fctrl", 1, 32, "int", "float"},
	{NULL, "fstat", 1, 32, "int", "float"},
	{NULL, "ftag", 1, 32, "int", "float"},
	{NULL, "fiseg", 1, 32, "int", "float"},
	{NULL, "fioff", 1, 32, "int", "float"},
	{NULL, "foseg", 1, 32, "int", "float"},
	{NULL, "fooff", 1, 32, "int", "float"},
	{NULL, "fop", 1, 32, "int", "float"},
	{"org.gnu.gdb.i386.sse", "xmm", 16, 128, "uint128", "vector"},
	{NULL, "mxcsr", 1, 32, "int", "vector"},
	{"org.gnu.gdb.i386.segments", "fs_base", 1, 64, "int", NULL},
	{NULL, "gs_base", 1, 64, "int", NULL},
	{"org.bulkhead.x86_64.system", "cr0", 1, 64, "int", "system"},
	{NULL, "cr2", 1, 64, "int", "system"},
	{NULL, "cr3", 1, 64, "int", "system"},
	{NULL, "cr4", 1, 64, "int", "system"},
	{NULL, "cr8", 1, 64, "int", "system"},
	{NULL, "efer", 1, 64, "int", "system"},
};

static void describe_group(FILE *out, const struct group *g)
{
	for (unsigned i = 0; i < g->count; i++) {
		fprintf(out, "<reg name=\"%s", g->name);
		if (g->count > 1)
			fprintf(out, "%u", i);
		fprintf(out, "\" bitsize=\"%u\" type=\"%s\"", g->bits, g->type);
		if (g->group)
			fprintf(out, " group=\"%s\"", g->group);
		fprintf(out, "/>\n");
	}
}

char *arch_gdb_describe(void)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	fprintf(out,
		"<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target>\n"
		"<architecture>i386:x86-64</architecture>\n");
	for (unsigned i = 0; i < ARRAY_SIZE(groups); i++) {
		if (groups[i].feature)
			fprintf(out, "%s<feature name=\"%s\">\n", i ? "</feature>\n" : "",
				groups[i].feature);
		describe_group(out, &groups[i]);
	}
	fprintf(out, "</feature>\n</target>\n");
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

size_t arch_gdb_registers_size(void)
{
	return sizeof(struct registers);
}

bool arch_gdb_register(unsigned number, size_t *offset, size_t *size)
{
	size_t at = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(groups); i++) {
		size_t each = groups[i].bits / 8;

		if (number < groups[i].count) {
			*offset = at + number * each;
			*size = each;
			return true;
		}
		number -= groups[i].count;
		at += groups[i].count * each;
	}
	return false;
}

/* The same sixteen, in the table's order. */
static void list_general(struct kvm_regs *regs, __u64 *list[static 16])
{
	__u64 *order[16] = {&regs->rax, &regs->rbx, &regs->rcx, &regs->rdx, &regs->rsi, &regs->rdi,
		&regs->rbp, &regs->rsp, &regs->r8, &regs->r9, &regs->r10, &regs->r11, &regs->r12,
		&regs->r13, &regs->r14, &regs->r15};

	memcpy(list, order, sizeof(order));
}

/* SDM vol. 1 §8.1.7, §10.5.1: KVM has one bit a register, set where it is in use; the tag word has two, 3 where it is empty. */
static uint32_t tags_from_kvm(uint8_t used)
{
	uint32_t tags = 0;

	for (unsigned i = 0; i < 8; i++)
		tags |= (used >> i & 1 ? 0u : 3u) << (2 * i);
	return tags;
}

static uint8_t tags_to_kvm(uint32_t tags)
{
	uint8_t used = 0;

	for (unsigned i = 0; i < 8; i++)
		used |= (uint8_t)(((tags >> (2 * i) & 3) != 3) << i);
	return used;
}

static void from_fpu(const struct kvm_fpu *fpu, struct registers *r)
{
	for (unsigned i = 0; i < 8; i++)
		memcpy(r->st[i], fpu->fpr[i], sizeof(r->st[i]));
	r->fctrl = fpu->fcw;
	r->fstat = fpu->fsw;
	r->ftag = tags_from_kvm(fpu->ftwx);
	r->fiseg = (uint32_t)(fpu->last_ip >> 32);
	r->fioff = (uint32_t)fpu->last_ip;
	r->foseg = (uint32_t)(fpu->last_dp >> 32);
	r->fooff = (uint32_t)fpu->last_dp;
	r->fop = fpu->last_opcode;
	memcpy(r->xmm, fpu->xmm, sizeof(r->xmm));
	r->mxcsr = fpu->mxcsr;
}

static void to_fpu(const struct registers *r, struct kvm_fpu *fpu)
{
	for (unsigned i = 0; i < 8; i++)
		memcpy(fpu->fpr[i], r->st[i], sizeof(r->st[i]));
	fpu->fcw = (uint16_t)r->fctrl;
	fpu->fsw = (uint16_t)r->fstat;
	fpu->ftwx = tags_to_kvm(r->ftag);
	fpu->last_ip = (uint64_t)r->fiseg << 32 | r->fioff;
	fpu->last_dp = (uint64_t)r->foseg << 32 | r->fooff;
	fpu->last_opcode = (uint16_t)r->fop;
	memcpy(fpu->xmm, r->xmm, sizeof(r->xmm));
	fpu->mxcsr = r->mxcsr;
}

static void from_system(const struct kvm_sregs *sregs, struct registers *r)
{
	r->cs = sregs->cs.selector;
	r->ss = sregs->ss.selector;
	r->ds = sregs->ds.selector;
	r->es = sregs->es.selector;
	r->fs = sregs->fs.selector;
	r->gs = sregs->gs.selector;
	r->fs_base = sregs->fs.base;
	r->gs_base = sregs->gs.base;
	r->cr0 = sregs->cr0;
	r->cr2 = sregs->cr2;
	r->cr3 = sregs->cr3;
	r->cr4 = sregs->cr4;
	r->cr8 = sregs->cr8;
	r->efer = sregs->efer;
}

static void to_system(const struct registers *r, struct kvm_sregs *sregs)
{
	sregs->fs.base = r->fs_base;
	sregs->gs.base = r->gs_base;
	sregs->cr0 = r->cr0;
	sregs->cr2 = r->cr2;
	sregs->cr3 = r->cr3;
	sregs->cr4 = r->cr4;
	sregs->cr8 = r->cr8;
	sregs->efer = r->efer;
}

struct state {
	struct kvm_regs regs;	/* §4.11 */
	struct kvm_sregs sregs; /* §4.13 */
	struct kvm_fpu fpu;	/* §4.22 */
};

static int get_state(const struct vcpu *vcpu, struct state *state)
{
	if (ioctl(vcpu->fd, KVM_GET_REGS, &state->regs) < 0 ||
		ioctl(vcpu->fd, KVM_GET_SREGS, &state->sregs) < 0 ||
		ioctl(vcpu->fd, KVM_GET_FPU, &state->fpu) < 0)
		return -errno;
	return 0;
}

int arch_gdb_get_registers(struct vcpu *vcpu, uint8_t *bytes)
{
	struct registers r = {0};
	struct state state;
	__u64 *general[16];
	int ret = get_state(vcpu, &state);

	if (ret < 0)
		return ret;
	list_general(&state.regs, general);
	for (unsigned i = 0; i < ARRAY_SIZE(general); i++)
		r.general[i] = *general[i];
	r.rip = state.regs.rip;
	r.eflags = (uint32_t)state.regs.rflags;
	from_system(&state.sregs, &r);
	from_fpu(&state.fpu, &r);
	memcpy(bytes, &r, sizeof(r));
	return 0;
}

/* Segments and control registers are checked by KVM as a whole: they are left alone where none is to change. */
int arch_gdb_set_registers(struct vcpu *vcpu, const uint8_t *bytes)
{
	struct registers r;
	struct state old, new;
	__u64 *general[16];
	int ret = get_state(vcpu, &old);

	if (ret < 0)
		return ret;
	memcpy(&r, bytes, sizeof(r));
	new = old;
	list_general(&new.regs, general);
	for (unsigned i = 0; i < ARRAY_SIZE(general); i++)
		*general[i] = r.general[i];
	new.regs.rip = r.rip;
	new.regs.rflags = (new.regs.rflags & ~0xffffffffull) | r.eflags;
	to_system(&r, &new.sregs);
	to_fpu(&r, &new.fpu);
	if (memcmp(&new.sregs, &old.sregs, sizeof(new.sregs)) != 0 &&
		ioctl(vcpu->fd, KVM_SET_SREGS, &new.sregs) < 0)
		return -errno;
	if (memcmp(&new.fpu, &old.fpu, sizeof(new.fpu)) != 0 &&
		ioctl(vcpu->fd, KVM_SET_FPU, &new.fpu) < 0)
		return -errno;
	if (memcmp(&new.regs, &old.regs, sizeof(new.regs)) != 0 &&
		ioctl(vcpu->fd, KVM_SET_REGS, &new.regs) < 0)
		return -errno;
	return 0;
}
