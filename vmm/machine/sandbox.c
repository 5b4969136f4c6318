/* SPDX-License-Identifier: Apache-2.0 */
/* Installing the system-call filters that the build made: see sandbox.h. */
#include "vmm/machine/sandbox.h"

#include "seccomp_filters.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define PROGRAM(array)                                                                             \
	{                                                                                          \
		.len = ARRAY_SIZE(array), .filter = (struct sock_filter *)(uintptr_t)array         \
	}

static const struct sock_fprog programs[][2] = {
	[SANDBOX_MAIN] = {PROGRAM(main_enforce), PROGRAM(main_log)},
	[SANDBOX_VCPU] = {PROGRAM(vcpu_enforce), PROGRAM(vcpu_log)},
	[SANDBOX_IO] = {PROGRAM(io_enforce), PROGRAM(io_log)},
	[SANDBOX_FAULTS] = {PROGRAM(faults_enforce), PROGRAM(faults_log)},
};

int sandbox_enter(enum sandbox_thread kind, enum seccomp_mode mode, struct error *err)
{
	const struct sock_fprog *program = &programs[kind][mode == SECCOMP_LOG];

	if (mode == SECCOMP_OFF)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) < 0) {
		error_errno(err, errno, "cannot install the system-call filter");
		return error_hint(err,
			"run with --seccomp off where the host's kernel has no seccomp filters");
	}
	return 0;
}
