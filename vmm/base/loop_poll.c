/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors watched by an event loop. See loop.h.
 *
 * A multishot poll stays in the kernel until it is removed, or ends by itself when completions overflow; an owner may
 * stop it while either is under way. `armed`, `removing` and `wanted` say who still holds what.
 */
#include "vmm/base/loop_private.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>

static void poll_arm(struct loop_poll *poll)
{
	struct io_uring_sqe *sqe = loop_sqe(poll->loop);

	io_uring_prep_poll_multishot(sqe, poll->fd, poll->events);
	loop_bind(sqe, &poll->op);
	poll->armed = true;
	poll->loop->polls++;
}

static void poll_end(struct loop_poll *poll)
{
	if (!poll->armed && !poll->removing && poll->stopped)
		poll->stopped(poll);
}

static void poll_done(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct loop_poll *poll = container_of(op, struct loop_poll, op);

	if (!(flags & IORING_CQE_F_MORE)) {
		poll->armed = false;
		poll->loop->polls--;
	}
	if (!poll->wanted) {
		poll_end(poll);
		return;
	}
	/* The kernel ends a multishot poll when its completion queue overflows: arm it again. An error
	 * (a closed descriptor) is for the owner to see, once. */
	if (!poll->armed && res >= 0)
		poll_arm(poll);
	poll->ready(poll, res < 0 ? POLLERR : (uint32_t)res);
}

void loop_poll_start(struct loop *loop, struct loop_poll *poll)
{
	poll->loop = loop;
	poll->op.done = poll_done;
	poll->wanted = true;
	poll_arm(poll);
}

static void poll_remove(struct loop_poll *poll)
{
	struct io_uring_sqe *sqe = loop_sqe(poll->loop);

	io_uring_prep_poll_remove(sqe, (uint64_t)(uintptr_t)&poll->op);
	loop_bind(sqe, &poll->removed);
	poll->removing = true;
}

static void poll_removed(struct loop_op *op, int32_t res, uint32_t flags)
{
	struct loop_poll *poll = container_of(op, struct loop_poll, removed);

	(void)flags;
	poll->removing = false;
	/* The kernel does not remove a poll whose event it is just delivering: once more. */
	if (res == -EALREADY && poll->armed)
		poll_remove(poll);
	else
		poll_end(poll);
}

void loop_poll_stop(struct loop_poll *poll, void (*stopped)(struct loop_poll *poll))
{
	poll->wanted = false;
	poll->stopped = stopped;
	poll->removed.done = poll_removed;
	if (!poll->armed)
		poll_end(poll);
	else if (!poll->removing)
		poll_remove(poll);
}
