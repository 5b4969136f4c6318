/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's agent reads from others: mount tables, superblocks, addresses, Docker's answers. Its methods are tested
 * by tests/agent, as a whole.
 */
#include "guest/agent/disks.h"
#include "guest/agent/docker.h"
#include "guest/agent/identity.h"
#include "guest/agent/methods.h"
#include "guest/agent/mountinfo.h"
#include "guest/agent/netlink.h"
#include "tests/unit/runner.h"
#include "vmm/base/util.h"

#include <check.h>
#include <string.h>

START_TEST(a_mount_table_is_taken_apart)
{
	static const char text[] =
		"36 35 98:0 /mnt1 /mnt\\0402\\134 rw,noatime master:1 shared:2 - ext3 /dev/my\\040root rw,errors=continue\n"
		"37 36 0:31 / /proc rw - proc proc rw\n"
		"38 36 8:1 / / ro,relatime - xfs /dev/sda1 rw\n"
		"39 36 8:2 / /b rw,relatime - xfs /dev/sda2 ro,x\n"
		"40 36 0:50 / /c rw,romantic - btrfs /dev/sdb rw\n"
		"a line that is none\n"
		"41 36 x / / rw - a b c\n"
		"42 36 8:9 /";
	size_t count;
	struct mount_entry *e = mountinfo_parse(text, &count);

	ck_assert_ptr_nonnull(e);
	ck_assert_uint_eq(count, 5);
	ck_assert_str_eq(e[0].path, "/mnt 2\\");
	ck_assert_str_eq(e[0].source, "/dev/my root");
	ck_assert_str_eq(e[0].type, "ext3");
	ck_assert(e[0].major == 98 && e[0].minor == 0 && !e[0].readonly && !e[0].whole);
	ck_assert(!mount_is_on_disk(&e[1]) && e[1].whole);
	ck_assert(e[2].readonly && e[3].readonly && !e[4].readonly);
	ck_assert(mount_is_on_disk(&e[2]) && mount_is_on_disk(&e[4]));
	ck_assert_uint_eq(mount_depth("/"), 0);
	ck_assert_uint_eq(mount_depth("/a"), 1);
	ck_assert_uint_eq(mount_depth("/a/b"), 2);
	free(e);
}
END_TEST

START_TEST(more_mounts_than_there_is_room_for_are_left_out)
{
	size_t lines = MOUNTS_MAX + 10, count;
	static const char line[] = "1 1 8:1 / /x rw - ext4 /dev/sda rw\n";
	char *text = malloc(lines * (sizeof(line) - 1) + 1);
	struct mount_entry *e;

	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < lines; i++)
		memcpy(text + i * (sizeof(line) - 1), line, sizeof(line));
	e = mountinfo_parse(text, &count);
	ck_assert_uint_eq(count, MOUNTS_MAX);
	free(e);
	free(text);
}
END_TEST

START_TEST(a_superblock_tells_type_label_and_uuid)
{
	static uint8_t disk[DISK_PROBE_SIZE];
	static const uint8_t uuid[16] = {
		0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8};
	struct disk_probe probe;

	memset(disk, 0, sizeof(disk));
	disk_probe_bytes(disk, &probe);
	ck_assert_str_eq(probe.type, "");

	disk[DISK_PROBE_SIZE - 1] = 1;
	disk_probe_bytes(disk, &probe);
	ck_assert_str_eq(probe.type, "unknown");

	memcpy(disk, "XFSB", 4);
	memcpy(disk + 32, uuid, 16);
	memcpy(disk + 108, "twelve bytes", 12);
	disk_probe_bytes(disk, &probe);
	ck_assert_str_eq(probe.type, "xfs");
	ck_assert_str_eq(probe.label, "twelve bytes");
	ck_assert_str_eq(probe.uuid, "12345678-9abc-def0-0102-030405060708");

	/* ext's place is looked at first: mkfs.ext4 leaves the first sectors as they were. */
	disk[1024 + 0x38] = 0x53;
	disk[1024 + 0x39] = 0xef;
	memcpy(disk + 1024 + 0x78, "sixteen bytes !!more", 20);
	disk_probe_bytes(disk, &probe);
	ck_assert_str_eq(probe.type, "ext2");
	ck_assert_str_eq(probe.label, "sixteen bytes !!");
	disk[1024 + 0x5c] = 4;
	disk_probe_bytes(disk, &probe);
	ck_assert_str_eq(probe.type, "ext3");
	disk[1024 + 0x60] = 0x42;
	disk_probe_bytes(disk, &probe);
	ck_assert_str_eq(probe.type, "ext4");

	memset(disk, 0, sizeof(disk));
	memcpy(disk + 4086, "SWAPSPACE2", 10);
	disk_probe_bytes(disk, &probe);
	ck_assert_str_eq(probe.type, "swap");
	memset(disk, 0, sizeof(disk));
	memcpy(disk + 0x10040, "_BHRfS_M", 8);
	disk_probe_bytes(disk, &probe);
	ck_assert_str_eq(probe.type, "btrfs");
}
END_TEST

START_TEST(an_address_is_what_the_kernel_would_take_and_nothing_else)
{
	static const char *const refused[] = {"", "/", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/",
		"10.0.0.1/8x", "10.0.0", "10.0.0.256", "fd00::1/129", "fd00:::1", "eth0",
		"10.0.0.1/ 8",
		"0000000000000000000000000000000000000000000000000000000000000000000"};
	struct cidr cidr;

	ck_assert(cidr_parse("10.1.2.3/24", &cidr));
	ck_assert(cidr.family == AF_INET && cidr.prefix == 24 &&
		  !memcmp(cidr.address, "\x0a\x01\x02\x03", 4));
	ck_assert(cidr_parse("10.1.2.3", &cidr));
	ck_assert_uint_eq(cidr.prefix, 32);
	ck_assert(cidr_parse("fd00::1/64", &cidr));
	ck_assert(cidr.family == AF_INET6 && cidr.prefix == 64 && cidr.address[0] == 0xfd &&
		  cidr.address[15] == 1);
	ck_assert(cidr_parse("::/0", &cidr));
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
		ck_assert_msg(!cidr_parse(refused[i], &cidr), "%s", refused[i]);
}
END_TEST

START_TEST(a_host_name_has_no_surprises)
{
	ck_assert(identity_is_hostname("a") && identity_is_hostname("db-1.example") &&
		  identity_is_hostname("0"));
	ck_assert(!identity_is_hostname("") && !identity_is_hostname("-a") &&
		  !identity_is_hostname("a-"));
	ck_assert(!identity_is_hostname("a b") && !identity_is_hostname("a_b") &&
		  !identity_is_hostname("a\n"));
	ck_assert(!identity_is_hostname(
		"0123456789012345678901234567890123456789012345678901234567890123456"));
}
END_TEST

static const struct {
	const char *answer, *body; /* NULL: refused */
} answers[] = {
	{"HTTP/1.1 200 OK\r\n\r\nrest", "rest"},
	{"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nrest", "re"},
	{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""},
	{"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nrest", NULL},
	{"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nrest", NULL},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nre\r\n2;x\r\nst\r\n0\r\n\r\n",
		"rest"},
	{"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n", ""},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nrest", NULL},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nrest\r\n0\r\n\r\n", NULL},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nrest\r\n0\r\n\r\n", NULL},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nrest\r\n", NULL},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NULL},
	{"HTTP/1.1 200 OK\r\n", NULL},
	{"HTTP/2 200 OK\r\n\r\n", NULL},
	{"", NULL},
};

START_TEST(an_answer_of_docker_is_unframed_or_refused)
{
	struct error err = {0};
	int status = 0;
	char *body =
		docker_http_body(answers[_i].answer, strlen(answers[_i].answer), &status, &err);

	if (answers[_i].body) {
		ck_assert_msg(body, "%s", err.text);
		ck_assert_str_eq(body, answers[_i].body);
		ck_assert_int_eq(status, 200);
	} else {
		ck_assert_ptr_null(body);
		ck_assert_int_eq(err.kind, ERROR_CORRUPT);
	}
	free(body);
}
END_TEST

START_TEST(every_method_says_what_it_is_and_has_a_name_of_its_own)
{
	const struct rpc_method *methods = agent_methods();
	unsigned count = 0;

	for (const struct rpc_method *m = methods; m->name; m++, count++) {
		ck_assert_msg(m->serve && m->summary && m->result, "%s", m->name);
		ck_assert_msg(!m->params == !m->params_size, "%s", m->name);
		for (const struct schema *s = m->params; s && s->name; s++)
			ck_assert_msg(
				s->help && s->offset < m->params_size, "%s.%s", m->name, s->name);
		for (const struct rpc_method *other = methods; other < m; other++)
			ck_assert_str_ne(m->name, other->name);
	}
	ck_assert_uint_eq(count, 18);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("agent");

	tcase_add_test(tc, a_mount_table_is_taken_apart);
	tcase_add_test(tc, more_mounts_than_there_is_room_for_are_left_out);
	tcase_add_test(tc, a_superblock_tells_type_label_and_uuid);
	tcase_add_test(tc, an_address_is_what_the_kernel_would_take_and_nothing_else);
	tcase_add_test(tc, a_host_name_has_no_surprises);
	tcase_add_loop_test(
		tc, an_answer_of_docker_is_unframed_or_refused, 0, (int)ARRAY_SIZE(answers));
	tcase_add_test(tc, every_method_says_what_it_is_and_has_a_name_of_its_own);
	return run_tests("agent", tc, NULL);
}
