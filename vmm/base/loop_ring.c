/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop's io_uring.
 *
 * The best set of ring flags is tried first (DEFER_TASKRUN: completions are run when we ask, not by
 * interrupting us; Linux 6.1), then weaker ones. The ring is created disabled so that the thread
 * which enables it, not the one which created it, becomes its single issuer.
 */
#include "vmm/base/log.h"
#include "vmm/base/loop_private.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <sys/syscall.h>

static int create(struct io_uring *ring, unsigned entries)
{
	static const unsigned tries[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED,
		IORING_SETUP_R_DISABLED,
	};
	int ret = -EINVAL;

	for (unsigned i = 0; i < ARRAY_SIZE(tries) && ret == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = tries[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = entries * 4,
		};

		ret = io_uring_queue_init_params(entries, ring, &params);
	}
	return ret;
}

/*
 * System-call filters do not see what goes through a ring, so the ring itself is limited to the few
 * operations that our threads use, while it is still disabled: no open, no connect, no exec by it.
 * Kernels before 5.10 cannot; then the filters are all there is.
 */
static void restrict_operations(struct io_uring *ring)
{
	static const uint8_t operations[] = {IORING_OP_NOP, IORING_OP_READV, IORING_OP_WRITEV,
		IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
		IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE};
	static const uint8_t registrations[] = {
		IORING_REGISTER_ENABLE_RINGS, IORING_REGISTER_FILES, IORING_UNREGISTER_FILES};
	struct io_uring_restriction
		allowed[ARRAY_SIZE(operations) + ARRAY_SIZE(registrations) + 1] = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(operations); i++)
		allowed[n++] = (struct io_uring_restriction){
			.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = operations[i]};
	for (unsigned i = 0; i < ARRAY_SIZE(registrations); i++)
		allowed[n++] = (struct io_uring_restriction){
			.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = registrations[i]};
	allowed[n++] = (struct io_uring_restriction){
		.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE};
	if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
		    n) < 0)
		log_debug("this kernel cannot restrict an io_uring");
}

int loop_ring_open(struct io_uring *ring, unsigned entries)
{
	int ret = create(ring, entries);

	if (ret >= 0)
		restrict_operations(ring);
	return ret;
}

/* Debian 12's shared liburing does not export io_uring_enable_rings(). */
int loop_ring_enable(struct io_uring *ring)
{
	if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) <
		0)
		return -errno;
	return 0;
}
