/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest/rootfs/inits' probe: prints when the agent answers its first ping and when dockerd is ready, in seconds since the
 * kernel's start, and ends the guest.
 *
 * The agent is asked over vsock's loopback (vsock(7)), for a plain emulator has no host's side of it; dockerd as
 * `docker info` asks it.
 */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_BOOTTIME, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* Whether one request is answered, with `wanted` in the answer's first piece. */
static int answers(
	const struct sockaddr *address, socklen_t len, const char *request, const char *wanted)
{
	char text[4096];
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t n = -1;

	if (fd >= 0 && !connect(fd, address, len) && write(fd, request, strlen(request)) > 0)
		n = read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	return strstr(text, wanted) != NULL;
}

int main(void)
{
	struct sockaddr_vm agent = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = 1024};
	struct sockaddr_un docker = {.sun_family = AF_UNIX, .sun_path = "/run/docker.sock"};
	double at;

	while (!answers((struct sockaddr *)&agent, sizeof(agent),
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n", "uptime_ms"))
		usleep(10000);
	at = now();
	while (!answers(
		(struct sockaddr *)&docker, sizeof(docker), "GET /info HTTP/1.0\r\n\r\n", " 200 "))
		usleep(10000);
	printf("\nprobe: agent=%.3f docker=%.3f\n", at, now());
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT);
	return 0;
}
