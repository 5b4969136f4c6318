/* SPDX-License-Identifier: Apache-2.0 */
/* Included by cppcheck before every file: macros of system headers, which it does not read. */
#pragma once

#define TAILQ_FOREACH(var, head, field)                                                            \
	for (var = (head)->tqh_first; var; var = var->field.tqe_next)
