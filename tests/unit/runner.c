/* SPDX-License-Identifier: Apache-2.0 */
/* Running a test program's cases: see runner.h. */
#include "tests/unit/runner.h"

#include <stdarg.h>
#include <stdlib.h>

int run_tests(const char *name, TCase *first, ...)
{
	Suite *suite = suite_create(name);
	SRunner *runner = srunner_create(suite);
	va_list cases;
	int failed;

	setenv("CK_DEFAULT_TIMEOUT", "60", 0); /* it is to catch what hangs, not a busy host */
	va_start(cases, first);
	for (TCase *tc = first; tc; tc = va_arg(cases, TCase *))
		suite_add_tcase(suite, tc);
	va_end(cases);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
