/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead disk`. */
#pragma once

int disk_main(int argc, char *const *argv);
