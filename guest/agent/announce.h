/* SPDX-License-Identifier: Apache-2.0 */
/* A link's neighbours, after its addresses changed: forgotten, and told where it is now. Blocking; workers and boot only. */
#pragma once

#include "guest/agent/netlink.h"

/*
 * Forget who was reached where over the link, and announce each of its addresses: IPv4 by an ARP announcement (RFC 5227 §2.3), IPv6 by
 * an unsolicited neighbour advertisement (RFC 4861 §7.2.6). How many were announced: what cannot be sent is no failure, since
 * neighbours ask again by themselves in time.
 */
unsigned announce_link(const struct link *link);
