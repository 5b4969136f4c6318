/* SPDX-License-Identifier: Apache-2.0 */
/* See report.h. */
#include "vmm/cli/report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void cli_report(const struct error *err)
{
	char text[sizeof(err->text) + sizeof(err->hint) + 8];
	char line[sizeof(text) + 16];
	size_t len;
	ssize_t ignored;

	snprintf(line, sizeof(line) - 1, "bulkhead: %s", error_format(err, text, sizeof(text)));
	len = strlen(line);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	ignored = write(STDERR_FILENO, line, len);
	(void)ignored; /* nowhere left to say so */
}
