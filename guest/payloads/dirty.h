/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mailbox between the payload "dirty" and who runs it, in a page of guest RAM at mailbox=GPA: the host writes the
 * arguments, then a new number; the guest does it, then says which number it has done. disk=0: it has none.
 */
#pragma once

#include <stdint.h>

enum dirty_order {
	DIRTY_WRITE,	 /* first GPA, pages, bytes from one to the next: one word into each */
	DIRTY_READ_DISK, /* GPA, sectors: from the beginning of the disk */
	DIRTY_STORM, /* first GPA, pages: words here and there in them, until the next order; done at once */
	DIRTY_RESET,
	DIRTY_END,
};

struct dirty_mailbox {
	uint64_t number, done;
	uint64_t ns; /* that the last order took */
	uint64_t order, args[3];
};
