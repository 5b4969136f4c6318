/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the host, a byte to COM1 each, when a whole disk is there or has gone: the kernel's uevents, as udev gets them.
 *
 * It waits in the kernel, so that the guest is idle until something comes, and has the byte written to the port itself: one
 * exit, where a line through the terminal would be several, and a thread's waking. By /dev/port, since the emulator
 * under the rig gives nested guests no ioperm(2) (it takes a busy TSS for none). The first byte says that it listens.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define COM1 0x3f8

enum { ADDED = 1, GONE = 2, LISTENS = 3 };

static void say(int ports, char byte)
{
	if (pwrite(ports, &byte, 1, COM1) != 1)
		err(1, "/dev/port");
}

int main(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
	int fd = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT);
	int ports = open("/dev/port", O_WRONLY);
	char text[8193];
	ssize_t n;

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(1, "uevents");
	if (ports < 0)
		err(1, "/dev/port");
	say(ports, LISTENS);
	while ((n = recv(fd, text, sizeof(text) - 1, 0)) >= 0) {
		text[n] = '\0'; /* "add@/devices/...", then NAME=VALUE each with a zero */
		if (!strstr(text, "/block/vd"))
			continue;
		if (!strncmp(text, "add@", 4))
			say(ports, ADDED);
		else if (!strncmp(text, "remove@", 7))
			say(ports, GONE);
	}
	err(1, "recv");
}
