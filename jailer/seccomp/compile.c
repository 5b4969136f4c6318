/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns the policy into BPF programs at build time, as C arrays: the monitor starts without compiling
 * filters and without libseccomp. Usage: compile OUTPUT.h
 */
#include "jailer/seccomp/policy.h"

#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	unsigned bit;
} threads[] = {
	{"main", POLICY_MAIN}, {"vcpu", POLICY_VCPU}, {"io", POLICY_IO}, {"faults", POLICY_FAULTS}};

static void die(const char *what, int err)
{
	fprintf(stderr, "seccomp policy: %s: %s\n", what, strerror(-err));
	exit(EXIT_FAILURE);
}

static void add_rule(scmp_filter_ctx ctx, const struct policy_rule *rule)
{
	int call = seccomp_syscall_resolve_name(rule->call);
	int ret;

	if (call == __NR_SCMP_ERROR)
		die(rule->call, -ENOSYS);
	if (call < 0)
		return; /* this architecture does not have it */
	if (rule->arg)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
			SCMP_CMP64(rule->arg - 1, SCMP_CMP_MASKED_EQ, rule->mask, rule->value));
	else
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0);
	if (ret < 0 && ret != -EEXIST)
		die(rule->call, ret);
}

static void emit(FILE *out, const char *name, unsigned bit, const char *suffix, uint32_t action)
{
	scmp_filter_ctx ctx = seccomp_init(action);
	FILE *program = tmpfile();
	struct sock_filter insn;
	int ret;

	if (!ctx || !program)
		die("no memory", -ENOMEM);
	for (unsigned i = 0; i < policy_rule_count; i++)
		if (policy_rules[i].threads & bit)
			add_rule(ctx, &policy_rules[i]);
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree over call numbers */
	ret = seccomp_export_bpf(ctx, fileno(program));
	if (ret < 0)
		die(name, ret);
	rewind(program);
	fprintf(out, "static const struct sock_filter %s_%s[] = {\n", name, suffix);
	while (fread(&insn, sizeof(insn), 1, program) == 1)
		fprintf(out, "\t{0x%04x, %u, %u, 0x%08x},\n", insn.code, insn.jt, insn.jf, insn.k);
	fprintf(out, "};\n\n");
	fclose(program);
	seccomp_release(ctx);
}

int main(int argc, char **argv)
{
	FILE *out = NULL;

	if (argc != 2 || !(out = fopen(argv[1], "w")))
		die("usage: compile OUTPUT.h", -EINVAL);
	fprintf(out,
		"/* Made from jailer/seccomp/policy.c; do not edit. */\n#include <linux/filter.h>\n\n");
	for (unsigned i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
		emit(out, threads[i].name, threads[i].bit, "enforce", SCMP_ACT_KILL_PROCESS);
		emit(out, threads[i].name, threads[i].bit, "log", SCMP_ACT_LOG);
	}
	if (fclose(out))
		die(argv[1], -errno);
	return EXIT_SUCCESS;
}
