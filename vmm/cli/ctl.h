/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead ctl` and `bulkhead events`: the control socket from the command line. Arguments come without the command. */
#pragma once

int ctl_main(int argc, char *const *argv);
int events_main(int argc, char *const *argv);
