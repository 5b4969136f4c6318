#!/bin/sh
# The demo's guest: shows disk, network and vsock at work, then gives a shell or powers off.
say() { echo "DEMO $*"; }

disk() {
	echo "written by the guest" >/greeting && sync && echo 3 >/proc/sys/vm/drop_caches &&
		[ "$(cat /greeting)" = "written by the guest" ]
}

network() {
	ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up && ping -c 3 -W 5 10.77.0.1 >/dev/null
}

echo
echo "Linux $(uname -r), $(grep -c ^processor /proc/cpuinfo) CPUs, $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
if disk; then say "ok disk: $(df -h / | tail -n 1 | tr -s ' ')"; else say "failed disk"; fi
if network; then say "ok network: the host answers ping"; else say "failed network"; fi
answer=$(echo "hello, host" | socat -t 5 - VSOCK-CONNECT:2:5000)
if [ "$answer" = "the host heard: hello, host" ]; then
	say "ok vsock, guest to host: $answer"
else
	say "failed vsock, guest to host"
fi

if grep -q demo.batch /proc/cmdline; then
	# shellcheck disable=SC2016 # for the other shell
	# One conversation that the host begins, then the end.
	socat VSOCK-LISTEN:6000 SYSTEM:'read -r line; echo "the guest heard: $line"'
	exit 0
fi
# shellcheck disable=SC2016 # for the other shell
socat VSOCK-LISTEN:6000,fork SYSTEM:'read -r line; echo "the guest heard: $line"' &
echo
echo "A shell on the guest's console; 'poweroff -f' ends it, Ctrl-A x ends the VM at once."
setsid cttyhack sh
