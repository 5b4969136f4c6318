/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead doctor`: what the host has, what it lacks, and the mend for each.
 *
 * A check looks at one thing and says in `found` what it saw; where something is missing, `mend` says
 * what to do about it. Checks change nothing on the host, and do not depend on each other.
 */
#pragma once

#include <stdbool.h>

struct doctor_finding {
	bool ok;
	char found[256];
	char mend[256];
};

struct doctor_check {
	const char *name;
	const char *purpose; /* what one cannot do without it */
	bool required;	     /* no VM runs without it */
	bool hardware;	     /* belongs to `doctor --hardware` */
	void (*look)(struct doctor_finding *finding);
};

int doctor_main(int argc, char *const *argv);

/* Fill in a finding; the text is what was found, and for what is missing then the mend. */
void doctor_ok(struct doctor_finding *finding, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void doctor_missing(struct doctor_finding *finding, const char *mend, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* doctor_kvm.c */
void doctor_look_kvm(struct doctor_finding *finding);
void doctor_look_hardware(struct doctor_finding *finding);
void doctor_look_nested(struct doctor_finding *finding);

/* doctor_host.c */
void doctor_look_io_uring(struct doctor_finding *finding);
void doctor_look_tun(struct doctor_finding *finding);
void doctor_look_vhost_net(struct doctor_finding *finding);
void doctor_look_userfaultfd(struct doctor_finding *finding);
void doctor_look_cgroup(struct doctor_finding *finding);
void doctor_look_thp(struct doctor_finding *finding);
void doctor_look_huge_2m(struct doctor_finding *finding);
void doctor_look_huge_1g(struct doctor_finding *finding);
void doctor_look_nofile(struct doctor_finding *finding);
void doctor_look_memlock(struct doctor_finding *finding);
