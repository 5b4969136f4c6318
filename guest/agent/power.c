/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power button: KEY_POWER of an evdev device (linux/input.h). They are looked for at the start; the button of a
 * virtual machine does not come later. Where /dev/input has none (a kernel without evdev), nothing is watched.
 */
#include "guest/agent/power.h"

#include "guest/agent/events.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define BUTTONS_MAX 8

static struct event buttons[BUTTONS_MAX];
static void (*button_pressed)(void);

static void button_ready(struct event *event, uint32_t events)
{
	struct input_event input;
	ssize_t n;

	(void)events;
	while ((n = read(event->fd, &input, sizeof(input))) == (ssize_t)sizeof(input))
		if (input.type == EV_KEY && input.code == KEY_POWER && input.value == 1)
			button_pressed();
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		event_watch(event, 0); /* unplugged */
}

static bool has_power_key(int fd)
{
	uint8_t keys[KEY_MAX / 8 + 1] = {0};

	return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) >= 0 &&
	       keys[KEY_POWER / 8] & 1 << KEY_POWER % 8;
}

void power_watch(void (*pressed)(void))
{
	unsigned count = 0;

	button_pressed = pressed;
	for (unsigned i = 0; i < 32 && count < BUTTONS_MAX; i++) {
		char path[32];
		int fd;

		snprintf(path, sizeof(path), "/dev/input/event%u", i);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!has_power_key(fd)) {
			close(fd);
			continue;
		}
		buttons[count] = (struct event){.fd = fd, .ready = button_ready};
		event_watch(&buttons[count++], EPOLLIN);
	}
}
