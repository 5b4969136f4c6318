/* SPDX-License-Identifier: Apache-2.0 */
/* Options apart from words: see arguments.h. */
#include "vmm/cli/arguments.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

int cli_arguments(const struct schema *table, int argc, char *const *argv, void *options,
	char **words, unsigned *count, bool *help, struct error *err)
{
	_cleanup_free_ char **flags = calloc((size_t)argc + 1, sizeof(*flags));
	int given = 0, ret;
	json_t *object;

	*count = 0;
	if (!flags)
		return error_errno(err, ENOMEM, "cannot read the command line");
	for (int i = 0; i < argc; i++) {
		const struct schema *option;

		if (!strcmp(argv[i], "--")) {
			while (++i < argc)
				words[(*count)++] = argv[i];
			break;
		}
		if (argv[i][0] != '-') {
			words[(*count)++] = argv[i];
			continue;
		}
		option = !strncmp(argv[i], "--", 2) ? schema_find(table, argv[i] + 2) : NULL;
		flags[given++] = argv[i];
		if (option && option->type != SCHEMA_BOOL && i + 1 < argc)
			flags[given++] = argv[++i];
	}
	ret = schema_args(table, given, flags, &object, help, err);
	if (ret)
		return ret;
	ret = schema_fill(table, object, options, "", err);
	json_decref(object);
	return ret;
}
