/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The promises of the configuration: what a flag or a key means, what is refused and in which words.
 * Most cases are rows of a table: arguments, and the message (or the start of one) that must come.
 */
#include "tests/unit/runner.h"
#include "vmm/base/nearest.h"
#include "vmm/base/util.h"
#include "vmm/machine/config.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define ARGS_MAX 16

/* Parse up to the first NULL. */
static int parse(struct machine_config *config, struct error *err, const char *const *args)
{
	bool help;
	int argc = 0;

	while (argc < ARGS_MAX && args[argc])
		argc++;
	return machine_config_from_args(config, argc, (char *const *)(uintptr_t)args, &help, err);
}

#define PARSE(config, err, ...) parse(config, err, (const char *const[ARGS_MAX + 1]){__VA_ARGS__})

static int parse_json(struct machine_config *config, struct error *err, const char *text)
{
	json_t *object;
	int ret = machine_config_parse(text, strlen(text), "test.json", &object, err);

	if (ret)
		return ret;
	ret = machine_config_from_json(config, object, err);
	json_decref(object);
	return ret;
}

START_TEST(the_documented_defaults_hold)
{
	struct machine_config config;
	struct error err;

	ck_assert_int_eq(PARSE(&config, &err, "--kernel", "vmlinux"), 0);
	ck_assert_str_eq(config.name, "vm");
	ck_assert_str_eq(config.kernel, "vmlinux");
	ck_assert_uint_eq(config.cpus, 1);
	ck_assert_uint_eq(config.cpus_max, 1);
	ck_assert_str_eq(config.cpu_model, "host");
	ck_assert_uint_eq(config.memory, MIB(512));
	ck_assert_uint_eq(config.memory_max, MIB(512));
	ck_assert_int_eq(config.hugepages, MEMORY_PAGES_THP);
	ck_assert(!config.prealloc && !config.paused && !config.initrd && !config.control);
	ck_assert_uint_eq(config.disk_count + config.net_count, 0);
	ck_assert_uint_eq(config.vsock_cid, 0);
	ck_assert_int_eq(config.console, CONSOLE_STDIO);
	ck_assert_int_eq(config.seccomp, SECCOMP_ON);
	ck_assert_int_eq(config.log_level, LOG_WARN);
	machine_config_free(&config);
}
END_TEST

START_TEST(every_option_of_run_arrives_in_the_structure)
{
	struct machine_config config;
	struct error err;

	ck_assert_int_eq(
		PARSE(&config, &err, "--name=db-1", "--kernel=k", "--initrd=i", "--cmdline=c",
			"--append=a", "--append=b", "--cpus=2,max=4", "--cpu-model=x86-64-v2",
			"--memory=1G,max=2G,hugepages=2M,prealloc=on",
			"--disk=path=/nonexistent/d,id=root,readonly,cache=writethrough,queues=4,serial=S1,discard,"
			"iops=100,bps=10M",
			"--net=tap=tap9,id=lan,mac=02:00:5e:10:00:ff,mtu=9000,queues=2,vhost=on,pps=7,bps=1K",
			"--vsock=cid=42,socket=/run/v", "--console=file:/tmp/c", "--paused",
			"--seccomp=log", "--log-level=debug"),
		0);
	ck_assert_str_eq(config.name, "db-1");
	ck_assert_str_eq(config.initrd, "i");
	ck_assert_str_eq(config.append, "a b");
	ck_assert_uint_eq(config.cpus, 2);
	ck_assert_uint_eq(config.cpus_max, 4);
	ck_assert_str_eq(config.cpu_model, "x86-64-v2");
	ck_assert_uint_eq(config.memory, GIB(1));
	ck_assert_uint_eq(config.memory_max, GIB(2));
	ck_assert_int_eq(config.hugepages, MEMORY_PAGES_2M);
	ck_assert(config.prealloc && config.paused);
	ck_assert_uint_eq(config.disk_count, 1);
	ck_assert_str_eq(config.disks[0].path, "/nonexistent/d");
	ck_assert_str_eq(config.disks[0].id, "root");
	ck_assert_str_eq(config.disks[0].serial, "S1");
	ck_assert(config.disks[0].readonly && config.disks[0].discard);
	ck_assert_int_eq(config.disks[0].cache, BLK_CACHE_WRITETHROUGH);
	ck_assert_uint_eq(config.disks[0].queues, 4);
	ck_assert_uint_eq(config.disks[0].iops, 100);
	ck_assert_uint_eq(config.disks[0].bps, MIB(10));
	ck_assert_str_eq(config.nets[0].tap, "tap9");
	ck_assert_int_eq(config.nets[0].fd, -1);
	ck_assert_mem_eq(config.nets[0].mac, "\x02\x00\x5e\x10\x00\xff", 6);
	ck_assert(config.nets[0].mac_given && config.nets[0].vhost);
	ck_assert_uint_eq(config.nets[0].mtu, 9000);
	ck_assert_uint_eq(config.nets[0].pps, 7);
	ck_assert_uint_eq(config.nets[0].bps, 1024);
	ck_assert_uint_eq(config.vsock_cid, 42);
	ck_assert_str_eq(config.vsock_socket, "/run/v");
	ck_assert_int_eq(config.console, CONSOLE_FILE);
	ck_assert_str_eq(config.console_path, "/tmp/c");
	ck_assert_int_eq(config.seccomp, SECCOMP_LOG);
	ck_assert_int_eq(config.log_level, LOG_DEBUG);
	machine_config_free(&config);
}
END_TEST

START_TEST(a_file_says_the_same_as_flags)
{
	struct machine_config config;
	struct error err;

	ck_assert_int_eq(
		parse_json(&config, &err,
			"{\"kernel\": \"k\", \"cpus\": 3, \"memory\": {\"size\": \"1G\", \"hugepages\": \"off\"},"
			" \"disk\": [{\"path\": \"/a,b\", \"readonly\": true}, {\"path\": \"/c\", \"bps\": \"1M\"}],"
			" \"net\": [{\"fd\": 7}], \"paused\": true, \"console\": \"off\"}"),
		0);
	ck_assert_uint_eq(config.cpus, 3);
	ck_assert_uint_eq(config.memory, GIB(1));
	ck_assert_int_eq(config.hugepages, MEMORY_PAGES_OFF);
	ck_assert_uint_eq(config.disk_count, 2);
	ck_assert_str_eq(config.disks[0].path, "/a,b");
	ck_assert_str_eq(config.disks[0].id, "disk0");
	ck_assert_str_eq(config.disks[1].id, "disk1");
	ck_assert_int_eq(config.disks[1].cache, BLK_CACHE_AUTO);
	ck_assert_uint_eq(config.disks[1].bps, MIB(1));
	ck_assert_int_eq(config.nets[0].fd, 7);
	ck_assert_str_eq(config.nets[0].id, "net0");
	ck_assert(config.paused);
	machine_config_free(&config);

	ck_assert_int_eq(
		parse_json(&config, &err, "{\"kernel\": \"k\", \"memory\": 1073741824}"), 0);
	ck_assert_uint_eq(config.memory, GIB(1));
	machine_config_free(&config);
}
END_TEST

START_TEST(a_flag_overrides_the_file_and_a_list_replaces_its_list)
{
	char path[] = "/tmp/test_config.XXXXXX";
	static const char text[] = "{\"kernel\": \"k\", \"name\": \"f\", \"cpus\": 2,"
				   " \"disk\": [{\"path\": \"/1\"}, {\"path\": \"/2\"}]}";
	struct machine_config config;
	struct error err;
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	ck_assert_int_eq(
		PARSE(&config, &err, "--name", "g", "--config", path, "--disk", "path=/3"), 0);
	ck_assert_str_eq(config.name, "g");
	ck_assert_str_eq(config.kernel, "k");
	ck_assert_uint_eq(config.cpus, 2);
	ck_assert_uint_eq(config.disk_count, 1);
	ck_assert_str_eq(config.disks[0].path, "/3");
	machine_config_free(&config);
	unlink(path);
}
END_TEST

START_TEST(a_doubled_comma_is_a_comma)
{
	struct machine_config config;
	struct error err;

	ck_assert_int_eq(
		PARSE(&config, &err, "--kernel", "k", "--disk", "path=/a,,b=c,,,,d,readonly"), 0);
	ck_assert_str_eq(config.disks[0].path, "/a,b=c,,d");
	ck_assert(config.disks[0].readonly);
	machine_config_free(&config);
}
END_TEST

static const struct {
	const char *option, *value;
	const char *message; /* how the error text begins */
	const char *hint;    /* what the hint contains; NULL: nothing asked */
} refused[] = {
	{"--kernle", "k", "--kernle: no such option", "--kernel"},
	{"stray", NULL, "'stray': unexpected argument", NULL},
	{"--memory", NULL, "--memory: needs a value", NULL},
	{"--name", "Upper", "name: 'Upper' is not an identifier", NULL},
	{"--name", "-x", "name: '-x' is not an identifier", NULL},
	{"--cpus", "0", "cpus.count: 0 is not a whole number from 1 to 64", NULL},
	{"--cpus", "65", "cpus.count: 65 is not a whole number from 1 to 64", NULL},
	{"--cpus", "-1", "cpus.count: -1 is not a whole number", NULL},
	{"--cpus", "1.5", "cpus.count: '1.5' is not a whole number", NULL},
	{"--cpus", "99999999999999999999", "cpus.count: '99999999999999999999' is not", NULL},
	{"--cpus", "4,max=2", "cpus.max: 2 is less than cpus.count, 4", NULL},
	{"--cpus", "2,count=2", "cpus.count: is given twice", NULL},
	{"--cpu-model", "x86-64-v5", "cpu-model: 'x86-64-v5' is not one of host, x86-64-v2",
		"x86-64-v"},
	{"--memory", "0", "memory.size: '0' is not a size from 16M to 16T", NULL},
	{"--memory", "99999999999T", "memory.size: '99999999999T' is not a size", NULL},
	{"--memory", "18446744073709551616", "memory.size: '18446744073709551616' is not a size",
		NULL},
	{"--memory", "512MB", "memory.size: '512MB' is not a size", NULL},
	{"--memory", "16777217", "memory.size: 16777217 is not a multiple of the page size", NULL},
	{"--memory", "1G,max=512M", "memory.max: 536870912 bytes are less than memory.size", NULL},
	{"--memory", "17M,hugepages=2M", "memory.size: 17825792 is not a multiple", NULL},
	{"--memory", "1G,hugepages=4M", "memory.hugepages: '4M' is not one of off, thp, 2M, 1G",
		NULL},
	{"--memory", "1G,", "memory: '' is not of the form KEY=VALUE", NULL},
	{"--disk", "/a.img", "disk[0]: '/a.img' is not of the form KEY=VALUE", "path=/a.img"},
	{"--disk", "path=", "disk[0].path: is empty", NULL},
	{"--disk", "path", "disk[0].path: needs a value", NULL},
	{"--disk", "id=a", "disk[0].path: is required", NULL},
	{"--disk", "path=/a,cache=turbo",
		"disk[0].cache: 'turbo' is not one of none, writeback, writethrough", NULL},
	{"--disk", "path=/a,cache=writebak", "disk[0].cache: 'writebak' is not", "writeback"},
	{"--disk", "path=/a,cahce=none", "disk[0].cahce: no such key; there are path, id,",
		"cache"},
	{"--disk", "path=/a,path=/b", "disk[0].path: is given twice", NULL},
	{"--disk", "path=/a,queues=17", "disk[0].queues: 17 is not a whole number from 1 to 16",
		NULL},
	{"--disk", "path=/a,readonly=yes", "disk[0].readonly: 'yes' is not one of on, off", NULL},
	{"--disk", "path=/a,serial=123456789012345678901", "disk[0].serial: is 21 bytes long",
		NULL},
	{"--net", "mac=02:00:00:00:00:01", "net[0]: needs one of: tap=NAME or fd=N", NULL},
	{"--net", "tap=t,fd=5", "net[0]: needs only one of: tap=NAME or fd=N", NULL},
	{"--net", "tap=sixteen-letters-", "net[0].tap: is 16 bytes long, at most 15", NULL},
	{"--net", "tap=a/b", "net[0].tap: 'a/b' is not a name of a network device", NULL},
	{"--net", "fd=1", "net[0].fd: 1 is not a whole number from 3", NULL},
	{"--net", "tap=t,mac=01:00:00:00:00:01",
		"net[0].mac: '01:00:00:00:00:01' is not a unicast MAC", NULL},
	{"--net", "tap=t,mac=00:00:00:00:00:00", "net[0].mac: '00:00:00:00:00:00' is not a unicast",
		NULL},
	{"--net", "tap=t,mac=02:00:00:00:00:1", "net[0].mac: ", NULL},
	{"--net", "tap=t,mac=02:00:00:00:00:01:02", "net[0].mac: ", NULL},
	{"--net", "tap=t,mtu=67", "net[0].mtu: 67 is not a whole number from 68 to 65535", NULL},
	{"--vsock", "cid=2,socket=/x", "vsock.cid: 2 is not a whole number from 3 to 4294967294",
		NULL},
	{"--vsock", "cid=4294967295,socket=/x", "vsock.cid: 4294967295 is not", NULL},
	{"--vsock", "cid=3", "vsock.socket: is required", NULL},
	{"--console", "tty", "console: 'tty' is not one of stdio, off, file:PATH, socket:PATH",
		NULL},
	{"--console", "file:", "console: 'file:' needs a path", NULL},
	{"--gdb", "tcp:1234", "gdb: 'tcp:1234' is not one of off, unix:PATH", NULL},
	{"--gdb", "unix:", "gdb: 'unix:' needs a path", NULL},
	{"--append", "a\nb", "append: has a control character (byte 0x0a at 1)", NULL},
	{"--kernel", "\xff", "kernel: the value is not UTF-8", NULL},
	{"--paused=maybe", NULL, "paused: 'maybe' is not one of on, off", NULL},
	{"--log-level", "loud", "log-level: 'loud' is not one of error, warn, info, debug", NULL},
	{"--config", "/nonexistent/c.json", "cannot open the configuration '/nonexistent/c.json'",
		NULL},
	{"--config", "/", "cannot read the configuration '/': Is a directory", NULL},
	{"--config", "/dev/zero", "/dev/zero: is larger than 1048576 bytes", NULL},
};

START_TEST(an_impossible_option_is_refused_by_its_path_and_what_is_allowed)
{
	struct machine_config config;
	struct error err;

	ck_assert_int_lt(
		PARSE(&config, &err, "--kernel", "k", refused[_i].option, refused[_i].value), 0);
	ck_assert_msg(!strncmp(err.text, refused[_i].message, strlen(refused[_i].message)),
		"said '%s', not '%s'", err.text, refused[_i].message);
	if (refused[_i].hint)
		ck_assert_msg(strstr(err.hint, refused[_i].hint) != NULL, "hinted '%s'", err.hint);
}
END_TEST

static const struct {
	const char *text, *message;
} refused_json[] = {
	{"", "test.json:1:0: "},
	{"[]", "test.json: is not a JSON object"},
	{"{\"kernel\": \"k\"} x", "test.json:1:"},
	{"{\"kernel\": \"k\", \"kernel\": \"j\"}", "test.json:1:"},
	{"{\"kernel\": \"a\\u0000b\"}", "test.json:1:"},
	{"{}", "kernel: is required"},
	{"{\"kernel\": 1}", "kernel: 1 is not a path"},
	{"{\"kernel\": null}", "kernel: null is not a path"},
	{"{\"kernel\": \"k\", \"cpus\": \"2\"}", "cpus.count: '2' is not a whole number"},
	{"{\"kernel\": \"k\", \"cpus\": 2.0}", "cpus.count: 2 is not a whole number"},
	{"{\"kernel\": \"k\", \"cpus\": [1]}", "cpus: a list is not an object"},
	{"{\"kernel\": \"k\", \"memory\": -1}", "memory.size: -1 is not a size"},
	{"{\"kernel\": \"k\", \"memory\": {\"size\": true}}", "memory.size: true is not a size"},
	{"{\"kernel\": \"k\", \"disk\": {\"path\": \"a\"}}", "disk: an object is not a list"},
	{"{\"kernel\": \"k\", \"disk\": [\"a\"]}", "disk[0]: 'a' is not an object"},
	{"{\"kernel\": \"k\", \"disk\": [{\"path\": \"a\"}, {\"path\": \"b\", \"cache\": 1}]}",
		"disk[1].cache: 1 is not one of none"},
	{"{\"kernel\": \"k\", \"config\": \"other\"}", "config: no such key"},
	{"{\"kernel\": \"k\", \"disks\": []}", "disks: no such key"},
	{"{\"kernel\": \"k\", \"paused\": 1}", "paused: 1 is not one of on, off, true, false"},
	{"{\"kernel\": \"k\", \"disk\": [{\"path\": \"a\", \"id\": \"x\"}], \"net\": [{\"tap\": \"t\", \"id\": \"x\"}]}",
		"net[0].id: 'x' is the id of disk[0] already"},
	{"{\"kernel\": \"k\", \"disk\": [{\"path\": \"/dev/null\"}, {\"path\": \"/dev//null\"}]}",
		"disk[1].path: '/dev//null' is the file of disk[0] already"},
	{"{\"kernel\": \"k\", \"net\": [{\"tap\": \"t\"}, {\"tap\": \"t\"}]}",
		"net[1].tap: 't' is the tap of net[0] already"},
	{"{\"kernel\": \"k\", \"net\": [{\"fd\": 3}, {\"fd\": 3}]}",
		"net[1].fd: 3 is the fd of net[0]"},
};

START_TEST(an_impossible_file_is_refused_by_the_path_of_the_key)
{
	struct machine_config config;
	struct error err;

	ck_assert_int_lt(parse_json(&config, &err, refused_json[_i].text), 0);
	ck_assert_msg(
		!strncmp(err.text, refused_json[_i].message, strlen(refused_json[_i].message)),
		"said '%s', not '%s'", err.text, refused_json[_i].message);
}
END_TEST

/* {"kernel": "k", "disk": [{"path": "d0"}, …], "net": […]} */
static int parse_many(struct error *err, unsigned disks, unsigned nets)
{
	struct machine_config config;
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	int ret;

	fputs("{\"kernel\": \"k\", \"disk\": [", to);
	for (unsigned i = 0; i < disks; i++)
		fprintf(to, "%s{\"path\": \"d%u\"}", i ? ", " : "", i);
	fputs("], \"net\": [", to);
	for (unsigned i = 0; i < nets; i++)
		fprintf(to, "%s{\"tap\": \"t%u\"}", i ? ", " : "", i);
	fputs("]}", to);
	fclose(to);
	ret = parse_json(&config, err, text);
	if (!ret)
		machine_config_free(&config);
	free(text);
	return ret;
}

START_TEST(more_devices_than_slots_are_refused_in_one_line)
{
	struct error err;

	ck_assert_int_lt(parse_many(&err, 200, 0), 0);
	ck_assert_str_eq(err.text, "disk: 200 are given, at most 28 are possible");
	ck_assert_int_lt(parse_many(&err, 20, 20), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "40 PCI devices, at most 30 fit"));
	ck_assert_int_eq(parse_many(&err, 28, 2), 0);
}
END_TEST

START_TEST(deep_nesting_is_an_error_not_a_crash)
{
	struct machine_config config;
	struct error err;
	char *text = malloc(100001);

	memset(text, '[', 100000);
	text[100000] = '\0';
	ck_assert_int_lt(parse_json(&config, &err, text), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "depth"));
	free(text);
}
END_TEST

static void assert_cmdline(const char *wanted, const char *const *args)
{
	struct machine_config config;
	struct error err;
	char *line;

	ck_assert_msg(parse(&config, &err, args) == 0, "%s", err.text);
	line = machine_config_cmdline(&config);
	ck_assert_str_eq(line, wanted);
	free(line);
	machine_config_free(&config);
}

#define ASSERT_CMDLINE(wanted, ...)                                                                \
	assert_cmdline(wanted, (const char *const[ARGS_MAX + 1]){"--kernel=k", __VA_ARGS__})

START_TEST(the_kernel_command_line_is_as_documented)
{
	ASSERT_CMDLINE("console=ttyS0 panic=-1 reboot=t", NULL);
	ASSERT_CMDLINE("console=ttyS0 panic=-1 reboot=t root=/dev/vda rw", "--disk=path=/d");
	ASSERT_CMDLINE(
		"console=ttyS0 panic=-1 reboot=t root=/dev/vda ro", "--disk=path=/d,readonly");
	ASSERT_CMDLINE("console=ttyS0 panic=-1 reboot=t", "--disk=path=/d", "--initrd=i");
	ASSERT_CMDLINE("console=ttyS0 panic=-1 reboot=t quiet", "--append=quiet");
	ASSERT_CMDLINE(
		"console=ttyS0 panic=-1 reboot=t root=/dev/vda rw memhp_default_state=online memory_hotplug.online_policy=auto-movable quiet",
		"--memory=1G,max=2G", "--disk=path=/d", "--append=quiet");
	ASSERT_CMDLINE("x", "--memory=1G,max=2G", "--cmdline=x");
	ASSERT_CMDLINE("x y", "--cmdline=x", "--append=y", "--disk=path=/d");
	ASSERT_CMDLINE("", "--cmdline=");
}
END_TEST

START_TEST(a_command_line_too_long_for_the_kernel_is_refused)
{
	static char text[2100];
	struct machine_config config;
	struct error err;

	memset(text, 'a', 2047);
	ck_assert_int_eq(PARSE(&config, &err, "--kernel", "k", "--cmdline", text), 0);
	machine_config_free(&config);
	ck_assert_int_lt(
		PARSE(&config, &err, "--kernel", "k", "--cmdline", text, "--append", "b"), 0);
	ck_assert_str_eq(err.text,
		"append: the kernel command line is 2049 bytes long, at most 2047 are allowed");
	text[2047] = 'a';
	ck_assert_int_lt(PARSE(&config, &err, "--kernel", "k", "--cmdline", text), 0);
}
END_TEST

START_TEST(help_is_found_and_checks_nothing_else)
{
	struct machine_config config;
	struct error err;
	bool help = false;
	char *args[] = {(char *)"--cpus", (char *)"900", (char *)"--help", (char *)"--nonsense"};

	ck_assert_int_eq(machine_config_from_args(&config, 4, args, &help, &err), 0);
	ck_assert(help);
}
END_TEST

START_TEST(sizes_are_powers_of_1024_and_nothing_else)
{
	uint64_t bytes;
	char text[32];

	ck_assert(schema_size_parse("0", &bytes) && bytes == 0);
	ck_assert(schema_size_parse("3K", &bytes) && bytes == 3072);
	ck_assert(schema_size_parse("16777215T", &bytes) && bytes == 16777215ULL << 40);
	ck_assert(schema_size_parse("18446744073709551615", &bytes) && bytes == UINT64_MAX);
	ck_assert(!schema_size_parse("16777216T", &bytes));
	ck_assert(!schema_size_parse("", &bytes) && !schema_size_parse("K", &bytes));
	ck_assert(!schema_size_parse("1k", &bytes) && !schema_size_parse("1KB", &bytes));
	ck_assert(!schema_size_parse(" 1", &bytes) && !schema_size_parse("+1", &bytes));
	ck_assert(!schema_size_parse("-1", &bytes) && !schema_size_parse("0x10", &bytes));
	ck_assert_str_eq(schema_size_format(MIB(512), text, sizeof(text)), "512M");
	ck_assert_str_eq(schema_size_format(0, text, sizeof(text)), "0");
	ck_assert_str_eq(schema_size_format(1025, text, sizeof(text)), "1025");
	ck_assert_str_eq(schema_size_format(GIB(1) << 20, text, sizeof(text)), "1024T");
}
END_TEST

START_TEST(only_a_near_miss_is_taken_for_one)
{
	static const char *const words[] = {"run", "doctor", "kernel"};

	ck_assert_str_eq(nearest_word("rnu", words, 3), "run");
	ck_assert_str_eq(nearest_word("doctro", words, 3), "doctor");
	ck_assert_str_eq(nearest_word("kernle", words, 3), "kernel");
	ck_assert_ptr_null(nearest_word("migrate", words, 3));
	ck_assert_ptr_null(nearest_word("", words, 3));
	ck_assert_ptr_null(nearest_word("a-word-longer-than-any-that-we-have-or-will", words, 3));
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("config");

	tcase_add_test(tc, the_documented_defaults_hold);
	tcase_add_test(tc, every_option_of_run_arrives_in_the_structure);
	tcase_add_test(tc, a_file_says_the_same_as_flags);
	tcase_add_test(tc, a_flag_overrides_the_file_and_a_list_replaces_its_list);
	tcase_add_test(tc, a_doubled_comma_is_a_comma);
	tcase_add_loop_test(tc, an_impossible_option_is_refused_by_its_path_and_what_is_allowed, 0,
		(int)ARRAY_SIZE(refused));
	tcase_add_loop_test(tc, an_impossible_file_is_refused_by_the_path_of_the_key, 0,
		(int)ARRAY_SIZE(refused_json));
	tcase_add_test(tc, more_devices_than_slots_are_refused_in_one_line);
	tcase_add_test(tc, deep_nesting_is_an_error_not_a_crash);
	tcase_add_test(tc, the_kernel_command_line_is_as_documented);
	tcase_add_test(tc, a_command_line_too_long_for_the_kernel_is_refused);
	tcase_add_test(tc, help_is_found_and_checks_nothing_else);
	tcase_add_test(tc, sizes_are_powers_of_1024_and_nothing_else);
	tcase_add_test(tc, only_a_near_miss_is_taken_for_one);
	return run_tests("config", tc, NULL);
}
