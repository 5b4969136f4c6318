/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC in xAPIC mode, through its registers in memory (Intel SDM volume 3, chapter 10). */
#pragma once

#include <stdint.h>

#define LAPIC_SPURIOUS 0xff

/* Software-enable this processor's. Before, no interrupt but NMI and INIT reaches it. */
void lapic_enable(void);
void lapic_disable(void);
void lapic_end_of_interrupt(void);
uint32_t lapic_id(void);

/* Send `command` (low half of the interrupt command register) to the processor with this id. */
void lapic_send(uint32_t id, uint32_t command);

#define LAPIC_INIT    0x4500u /* assert */
#define LAPIC_STARTUP 0x4600u /* | page of the first instruction */
#define LAPIC_FIXED   0x4000u /* | vector */

/* What a device writes to interrupt the processor `id`: message address; the data is the vector. */
static inline uint64_t lapic_message_address(uint32_t id)
{
	return 0xfee00000u | id << 12;
}
