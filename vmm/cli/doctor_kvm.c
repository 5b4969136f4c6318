/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor's look at KVM. What /dev/kvm claims is one thing; whether it runs guest kernels on the
 * processor is another: there are KVMs in software that emulate every instruction of guest kernel
 * mode at a few million a second. Only running some tells (doctor_cpu_*.c).
 */
#include "vmm/cli/doctor.h"
#include "vmm/cli/doctor_cpu.h"

#include "vmm/base/util.h"
#include "vmm/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

/* Software KVM does 1.5 to 5 million a second, the slowest hardware-like nesting 400 million. */
#define HARDWARE_SPEED 20000000.0

static const char *mend_for(int errnum)
{
	switch (errnum) {
	case ENOENT:
		return "load the module (modprobe kvm_intel or kvm_amd), after enabling virtualization in "
		       "the firmware, or nested virtualization in the cloud's settings";
	case ENODEV:
	case ENXIO:
		return "the kvm module is not usable: load kvm_intel or kvm_amd, and see dmesg";
	case EACCES:
	case EPERM:
		return "run as root, or join the group that owns it: usermod -aG kvm USER, then log in again";
	default:
		return "see dmesg for messages of kvm";
	}
}

void doctor_look_kvm(struct doctor_finding *finding)
{
	_cleanup_close_ int fd = -1;
	struct error err;
	int ret = kvm_open(&fd, &err);

	if (ret)
		doctor_missing(
			finding, err.hint[0] ? err.hint : mend_for(-ret), "%.250s", err.text);
	else
		doctor_ok(finding,
			"/dev/kvm, API version %d, every capability that is needed, up to %d vCPUs",
			ioctl(fd, KVM_GET_API_VERSION, 0), kvm_check(fd, KVM_CAP_MAX_VCPUS));
}

void doctor_look_hardware(struct doctor_finding *finding)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	double speed;
	struct error err;
	int ret;

	if (fd < 0) {
		doctor_missing(finding, "mend kvm first", "cannot be measured without /dev/kvm");
		return;
	}
	ret = doctor_cpu_speed(fd, &speed, &err);
	if (ret)
		doctor_missing(finding, mend_for(-ret), "cannot be measured: %.200s", err.text);
	else if (speed >= HARDWARE_SPEED)
		doctor_ok(finding, "runs in hardware: %.0f million instructions a second",
			speed / 1e6);
	else
		doctor_missing(finding,
			"use a host with VT-x or AMD-V (or nested virtualization turned on), or tests/rig",
			"guest kernel mode is emulated in software: %.1f million instructions a second",
			speed / 1e6);
}

static char read_first(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c = '\0';

	if (fd < 0 || read(fd, &c, 1) != 1)
		return '\0';
	return c;
}

void doctor_look_nested(struct doctor_finding *finding)
{
	static const struct {
		const char *module, *path;
	} modules[] = {
		{"kvm_intel", "/sys/module/kvm_intel/parameters/nested"},
		{"kvm_amd", "/sys/module/kvm_amd/parameters/nested"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(modules); i++) {
		char state = read_first(modules[i].path);

		if (!state)
			continue;
		if (state == 'Y' || state == '1')
			doctor_ok(finding, "%s offers virtualization to guests", modules[i].module);
		else
			doctor_missing(finding, "reload the module with nested=1",
				"%s has it turned off", modules[i].module);
		return;
	}
	doctor_missing(finding, "use a host with kvm_intel or kvm_amd",
		"neither kvm_intel nor kvm_amd is loaded");
}
