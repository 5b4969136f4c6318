/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's folder is there whole or not at all, replaces nothing, and what dead processes left goes with the next. */
#include "tests/unit/runner.h"
#include "tests/unit/snapshot_files.h"
#include "vmm/base/util.h"
#include "vmm/machine/sandbox.h"
#include "vmm/transfer/chain.h"
#include "vmm/transfer/memory_file.h"
#include "vmm/transfer/snapshot_dir.h"
#include "vmm/transfer/stamp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PAGES (512 + 20)

/* A sanitizer makes calls of its own, which no filter knows. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#else
static const bool sanitized;
#endif

static char folder[64], path[96];
static struct memory_layout layout;
static uint8_t *memory;
static struct error err;

static void setup(void)
{
	scratch_make(folder, false);
	snprintf(path, sizeof(path), "%s/one", folder);
	layout = layout_of_two(20, 20);
	memory = pages_map(PAGES);
	for (uint64_t i = 0; i < PAGES; i++)
		page_fill(memory + i * GUEST_PAGE_SIZE, i);
}

static void teardown(void)
{
	munmap(memory, PAGES * GUEST_PAGE_SIZE);
	scratch_remove(folder);
}

/* Entries of the scratch folder; *growing: those among them that are not finished. */
static unsigned entries(unsigned *growing)
{
	DIR *stream = opendir(folder);
	struct dirent *entry;
	unsigned count = 0;

	*growing = 0;
	while ((entry = readdir(stream))) {
		count += entry->d_name[0] != '.';
		*growing += strstr(entry->d_name, ".tmp-") != NULL;
	}
	closedir(stream);
	return count;
}

START_TEST(a_committed_snapshot_has_its_name_and_nothing_is_left_over)
{
	static const char *const names[] = {
		"manifest.json", "state", "memory", "memory.sums", "verified"};
	unsigned growing, found = 0;
	struct dirent *entry;
	DIR *stream;

	snapshot_write(path, &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	ck_assert_uint_eq(entries(&growing), 1);
	ck_assert_uint_eq(growing, 0);
	stream = opendir(path);
	while ((entry = readdir(stream)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			found++;
	closedir(stream);
	ck_assert_uint_eq(found, ARRAY_SIZE(names));
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		char part[128];
		struct stat st;

		snprintf(part, sizeof(part), "%s/%s", path, names[i]);
		ck_assert_int_eq(stat(part, &st), 0);
		ck_assert_uint_eq(st.st_mode & 077, 0); /* a guest's memory is for its owner only */
	}
}
END_TEST

START_TEST(what_is_not_committed_goes)
{
	struct snapshot_manifest manifest;
	struct snapshot_dir dir;
	unsigned growing;

	manifest_begin(&manifest, &layout);
	MUST(snapshot_dir_create(&dir, path, &err));
	MUST(snapshot_dir_part(&dir, &manifest, "state", "x", 1, &err));
	ck_assert_uint_eq(entries(&growing), 1);
	ck_assert_uint_eq(growing, 1);
	snapshot_dir_abandon(&dir);
	ck_assert_uint_eq(entries(&growing), 0);
	snapshot_dir_abandon(&dir); /* twice is once */
	snapshot_manifest_destroy(&manifest);
}
END_TEST

START_TEST(a_folder_that_is_there_is_never_replaced)
{
	struct snapshot_manifest manifest;
	struct snapshot_dir dir;
	unsigned growing;

	mkdir(path, 0700);
	ck_assert_int_eq(snapshot_dir_create(&dir, path, &err), -EEXIST);
	ck_assert_int_eq(err.kind, ERROR_ALREADY_EXISTS);
	rmdir(path);
	ck_assert_int_eq(symlink("nowhere", path), 0);
	ck_assert_int_eq(snapshot_dir_create(&dir, path, &err), -EEXIST);
	unlink(path);

	/* Made by somebody else while ours grows, and empty: a plain rename() would take its place. */
	manifest_begin(&manifest, &layout);
	MUST(snapshot_dir_create(&dir, path, &err));
	MUST(snapshot_dir_part(&dir, &manifest, "state", "x", 1, &err));
	struct memory_file_config config = {.dir = dir.fd, .pages = PAGES};
	struct memory_file *file;

	MUST(memory_file_open(&file, &config, &err));
	MUST(memory_file_finish(file, &manifest, &err));
	memory_file_close(file);
	mkdir(path, 0700);
	ck_assert_int_eq(snapshot_dir_commit(&dir, &manifest, &err), -EEXIST);
	snapshot_dir_abandon(&dir);
	snapshot_manifest_destroy(&manifest);
	ck_assert_uint_eq(entries(&growing), 1);
	ck_assert_uint_eq(growing, 0);
}
END_TEST

START_TEST(what_a_killed_process_left_goes_with_the_next_snapshot)
{
	struct snapshot_dir dir, alive;
	char other[96], stray[128];
	unsigned growing;
	int status;
	pid_t child;

	snprintf(other, sizeof(other), "%s/other", folder);
	MUST(snapshot_dir_create(&alive, other, &err));
	child = fork();
	if (child == 0) {
		struct snapshot_manifest manifest;

		manifest_begin(&manifest, &layout);
		if (snapshot_dir_create(&dir, path, &err) == 0 &&
			snapshot_dir_part(&dir, &manifest, "state", "x", 1, &err) == 0)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	/* Looks alike, and is somebody's. */
	snprintf(stray, sizeof(stray), "%s/mine.tmp-0123abcd", folder);
	mkdir(stray, 0700);
	strcat(stray, "/file");
	close(open(stray, O_CREAT | O_WRONLY, 0600));
	ck_assert_uint_eq(entries(&growing), 3);
	MUST(snapshot_dir_create(&dir, path, &err));
	ck_assert_uint_eq(entries(&growing), 3); /* the living one, the stray one, ours */
	ck_assert_int_eq(access(stray, F_OK), 0);
	ck_assert_int_eq(faccessat(alive.fd, SNAPSHOT_LOCK_FILE, F_OK, 0), 0);
	snapshot_dir_abandon(&dir);
	snapshot_dir_abandon(&alive);
}
END_TEST

START_TEST(a_path_that_names_no_new_folder_is_refused)
{
	static const char *const paths[] = {"", "/", ".", "..", "a/..", "/tmp/."};
	struct snapshot_dir dir;
	char long_name[400] = "/tmp/";

	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		ck_assert_int_lt(snapshot_dir_create(&dir, paths[i], &err), 0);
		ck_assert(err.kind == ERROR_BAD_REQUEST || err.kind == ERROR_ALREADY_EXISTS);
	}
	memset(long_name + 5, 'a', 250);
	ck_assert_int_lt(snapshot_dir_create(&dir, long_name, &err), 0);
	ck_assert_int_eq(err.kind, ERROR_BAD_REQUEST);
	ck_assert_int_lt(snapshot_dir_create(&dir, "/nowhere/at/all", &err), 0);
	ck_assert_int_eq(err.kind, ERROR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.text, "/nowhere/at"));
}
END_TEST

/* ---- the stamp ---- */

static bool holds(const char *part)
{
	_cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY);
	_cleanup_close_ int fd = openat(dir, part, O_RDONLY);
	struct snapshot_manifest manifest;
	bool answer;

	MUST(snapshot_manifest_read(&manifest, dir, &err));
	answer = snapshot_stamp_holds(dir, &manifest, part, fd);
	snapshot_manifest_destroy(&manifest);
	return answer;
}

START_TEST(a_stamp_holds_from_the_commit_on_until_a_part_is_touched)
{
	char part[128], moved[128];
	struct stat st;
	uint8_t byte;
	int fd;

	snapshot_write(path, &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	ck_assert(holds("memory") && holds("state"));
	snprintf(part, sizeof(part), "%s/memory", path);
	stat(part, &st);
	fd = open(part, O_RDWR);
	ck_assert_int_eq(pread(fd, &byte, 1, 4096), 1);
	ck_assert(holds("memory")); /* reading is nothing */
	byte ^= 1;
	ck_assert_int_eq(pwrite(fd, &byte, 1, 4096), 1);
	/* What a hider would do. */
	futimens(fd, (struct timespec[]){st.st_atim, st.st_mtim});
	close(fd);
	ck_assert(!holds("memory"));
	ck_assert(holds("state"));
	/* The folder may move: its files are the same. */
	snprintf(moved, sizeof(moved), "%s/moved", folder);
	ck_assert_int_eq(rename(path, moved), 0);
	strcpy(path, moved);
	ck_assert(holds("state"));
}
END_TEST

START_TEST(a_write_right_behind_the_stamp_is_seen)
{
	for (unsigned n = 0; n < 5; n++) {
		char part[128];
		int fd;

		snprintf(path, sizeof(path), "%s/n%u", folder, n);
		snapshot_write(path, &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
		snprintf(part, sizeof(part), "%s/memory", path);
		fd = open(part, O_WRONLY);
		ck_assert_int_eq(pwrite(fd, "x", 1, 4096), 1);
		close(fd);
		ck_assert(!holds("memory"));
	}
}
END_TEST

START_TEST(a_copy_has_no_valid_stamp)
{
	char copy[256];

	snapshot_write(path, &layout, memory, SNAPSHOT_PLAIN, NULL, NULL);
	snprintf(copy, sizeof(copy), "cp -a %s %s/copy", path, folder);
	ck_assert_int_eq(system(copy), 0);
	snprintf(path, sizeof(path), "%s/copy", folder);
	ck_assert(!holds("memory"));
}
END_TEST

/* The threads of a snapshot have the main thread's filter: a call that it does not know ends the process. */
START_TEST(a_snapshot_needs_no_call_that_the_filter_forbids)
{
	static const char *const names[] = {"plain", "packed", "next"};
	int status;
	pid_t child = fork();

	if (child == 0) {
		uint64_t which[PAGES / 64 + 1] = {0x30f};
		char parent[96], next[96], *way;
		struct snapshot_dir dir;
		struct chain *chain;

		if (sandbox_enter(SANDBOX_MAIN, SECCOMP_ON, &err) < 0)
			_exit(77);
		for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
			snprintf(next, sizeof(next), "%s/%s", folder, names[i]);
			if (i == 2 && (chain_parent_folder(next, parent, &way, &err) < 0 ||
					      strcmp(way, "../packed") != 0))
				_exit(1);
			snapshot_write(next, &layout, memory,
				i == 1 ? SNAPSHOT_ZSTD : SNAPSHOT_PLAIN, i == 2 ? parent : NULL,
				i == 2 ? which : NULL);
			strcpy(parent, next);
		}
		if (snapshot_dir_create(&dir, path, &err) < 0)
			_exit(2);
		snapshot_dir_abandon(&dir);
		if (chain_open(&chain, next, &err) < 0 ||
			chain_verify(chain, CHAIN_VERIFY_ALL, NULL, &err) < 0)
			_exit(3);
		chain_close(chain);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
	ck_assert_int_ne(WEXITSTATUS(status), 77);
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("dir");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_committed_snapshot_has_its_name_and_nothing_is_left_over);
	tcase_add_test(tc, what_is_not_committed_goes);
	tcase_add_test(tc, a_folder_that_is_there_is_never_replaced);
	tcase_add_test(tc, what_a_killed_process_left_goes_with_the_next_snapshot);
	tcase_add_test(tc, a_path_that_names_no_new_folder_is_refused);
	tcase_add_test(tc, a_stamp_holds_from_the_commit_on_until_a_part_is_touched);
	tcase_add_test(tc, a_write_right_behind_the_stamp_is_seen);
	tcase_add_test(tc, a_copy_has_no_valid_stamp);
	if (!sanitized)
		tcase_add_test(tc, a_snapshot_needs_no_call_that_the_filter_forbids);
	return run_tests("snapshot_dir", tc, NULL);
}
