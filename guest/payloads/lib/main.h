/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A payload is a table of tests; the first word of the command line chooses one. It runs in user
 * mode; when it returns it has passed.
 */
#pragma once

struct payload_test {
	const char *name;
	void (*run)(void);
};

/* Ends with an entry without a name. Each payload has one. */
extern const struct payload_test payload_tests[];
