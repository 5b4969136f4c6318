/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile.elf: a guest that breaks the rules. After each attack the monitor must be there, other
 * devices must not have noticed, and a reset must mend the one that was attacked.
 */
#include "guest/payloads/lib/main.h"
#include "tests/hostile/attack.h"

const struct payload_test payload_tests[] = {
	{"available_index", attack_available_index},
	{"chains", attack_chains},
	{"requests", attack_requests},
	{"in_flight", attack_in_flight},
	{"race", attack_race},
	{"bar_garbage", attack_bar_garbage},
	{"config_garbage", attack_config_garbage},
	{"status_garbage", attack_status_garbage},
	{"bar_moves", attack_bar_moves},
	{"msix_garbage", attack_msix_garbage},
	{"ports", attack_ports},
	{"hotplug", attack_hotplug},
	{"mmio", attack_mmio},
	{"vsock", attack_vsock},
	{"net", attack_net},
	{"net_rings", attack_net_rings},
	{0},
};
