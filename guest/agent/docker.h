/* SPDX-License-Identifier: Apache-2.0 */
/* containers: what Docker runs. */
#pragma once

#include "vmm/rpc/rpc.h"

extern const struct rpc_method docker_methods[];

/*
 * The body of an HTTP/1.1 answer, new and NUL-terminated, or NULL: from all of its bytes, for the tests and the fuzzer.
 * Lengths and chunks are taken at their word only as far as there are bytes.
 */
char *docker_http_body(const char *bytes, size_t size, int *status, struct error *err);
