/* SPDX-License-Identifier: Apache-2.0 */
/* The table of checks, and their results as lines or as JSON. See doctor.h. */
#include "vmm/cli/doctor.h"

#include "vmm/base/util.h"
#include "vmm/cli/help.h"
#include "vmm/cli/report.h"

#include <stdarg.h>
#include <stdio.h>

static const struct doctor_check checks[] = {
	{"kvm", "every VM", true, true, doctor_look_kvm},
	{"guest-kernel", "Linux guests at a usable speed", true, true, doctor_look_hardware},
	{"io_uring", "every VM", true, false, doctor_look_io_uring},
	{"tun", "--net", false, false, doctor_look_tun},
	{"vhost-net", "--net vhost=on", false, false, doctor_look_vhost_net},
	{"userfaultfd", "background snapshots and post-copy migration", false, false,
		doctor_look_userfaultfd},
	{"cgroup2", "the jailer's resource limits", false, false, doctor_look_cgroup},
	{"thp", "--memory hugepages=thp", false, false, doctor_look_thp},
	{"hugepages-2M", "--memory hugepages=2M", false, false, doctor_look_huge_2m},
	{"hugepages-1G", "--memory hugepages=1G", false, false, doctor_look_huge_1g},
	{"nofile", "many disks and queues", false, false, doctor_look_nofile},
	{"memlock", "registered I/O buffers", false, false, doctor_look_memlock},
	{"nested", "guests that run VMs themselves", false, false, doctor_look_nested},
};

void doctor_ok(struct doctor_finding *finding, const char *fmt, ...)
{
	va_list args;

	finding->ok = true;
	finding->mend[0] = '\0';
	va_start(args, fmt);
	vsnprintf(finding->found, sizeof(finding->found), fmt, args);
	va_end(args);
}

void doctor_missing(struct doctor_finding *finding, const char *mend, const char *fmt, ...)
{
	va_list args;

	finding->ok = false;
	snprintf(finding->mend, sizeof(finding->mend), "%s", mend);
	va_start(args, fmt);
	vsnprintf(finding->found, sizeof(finding->found), fmt, args);
	va_end(args);
}

static void print_line(const struct doctor_check *check, const struct doctor_finding *finding)
{
	if (finding->ok)
		printf("ok       %-13s %s\n", check->name, finding->found);
	else
		printf("missing  %-13s %s; %s for %s: %s\n", check->name, finding->found,
			check->required ? "required" : "needed only", check->purpose,
			finding->mend);
	fflush(stdout); /* the next check may take its time */
}

static json_t *line_as_json(const struct doctor_check *check, const struct doctor_finding *finding)
{
	return json_pack("{s:s, s:s, s:b, s:s, s:s, s:s}", "name", check->name, "status",
		finding->ok ? "ok" : "missing", "required", check->required, "purpose",
		check->purpose, "found", finding->found, "mend", finding->mend);
}

/* Returns whether all that is required is there. */
static bool run_checks(const struct doctor_options *options, json_t *lines)
{
	bool good = true;

	for (unsigned i = 0; i < ARRAY_SIZE(checks); i++) {
		struct doctor_finding finding = {0};

		if (options->hardware && !checks[i].hardware)
			continue;
		checks[i].look(&finding);
		if (!finding.ok && checks[i].required)
			good = false;
		if (options->json)
			json_array_append_new(lines, line_as_json(&checks[i], &finding));
		else
			print_line(&checks[i], &finding);
	}
	return good;
}

static int examine(const struct doctor_options *options)
{
	json_t *lines = json_array();
	bool good = run_checks(options, lines);

	if (options->json) {
		json_t *report = json_pack("{s:b, s:O}", "ok", good, "checks", lines);

		json_dumpf(report, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(report);
	}
	json_decref(lines);
	return good ? CLI_OK : CLI_FAILED;
}

static int parse(
	int argc, char *const *argv, struct doctor_options *options, bool *help, struct error *err)
{
	const struct schema *table = commands[COMMAND_DOCTOR].options;
	json_t *flags;
	int ret = schema_args(table, argc, argv, &flags, help, err);

	if (ret)
		return ret;
	ret = schema_fill(table, flags, options, "", err);
	json_decref(flags);
	return ret;
}

int doctor_main(int argc, char *const *argv)
{
	struct doctor_options options = {0};
	struct error err;
	bool help;

	if (parse(argc, argv, &options, &help, &err)) {
		cli_report(&err);
		return CLI_USAGE;
	}
	if (!help)
		return examine(&options);
	help_print_command(stdout, &commands[COMMAND_DOCTOR]);
	return CLI_OK;
}
