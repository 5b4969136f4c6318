/* SPDX-License-Identifier: Apache-2.0 */
/* Included by cppcheck before every file: macros of system headers, which it does not read. */
#pragma once

#define TAILQ_FOREACH(var, head, field)                                                            \
	for (var = (head)->tqh_first; var; var = var->field.tqe_next)

#define json_array_foreach(array, index, value)                                                    \
	for (index = 0; index < json_array_size(array) && (value = json_array_get(array, index));  \
		index++)
