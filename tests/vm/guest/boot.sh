# Everything that a guest is given is there and works: CPUs, memory, disk, network, vsock.
right_cpus() {
	[ "$(grep -c ^processor /proc/cpuinfo)" = "$(arg want_cpus)" ] || { grep -c ^processor /proc/cpuinfo; return 1; }
}

right_memory() { # MemTotal lacks what the kernel keeps for itself
	want=$(arg want_mib)
	have=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
	echo "MemTotal $have MiB of $want"
	[ "$have" -gt $((want * 85 / 100 - 40)) ] && [ "$have" -le "$want" ]
}

virtio_devices() { # as many devices of each kind as were given
	for want in 2:disk:2 1:net:1 19:vsock:1; do
		kind=${want%%:*} n=0
		for d in /sys/bus/virtio/devices/*; do
			[ "$(($(cat "$d/device")))" = "$kind" ] && n=$((n + 1))
		done
		[ "$n" = "${want##*:}" ] || { echo "$n devices of kind $want"; return 1; }
	done
}

drivers_bound() {
	for d in /sys/bus/virtio/devices/*; do
		[ -e "$d/driver" ] || { echo "$d has no driver"; return 1; }
	done
}

file_system() {
	mount -t ext4 /dev/vda /mnt && grep -q . /mnt/bulkhead-marker && echo hello >/mnt/written && sync &&
		umount /mnt && mount -t ext4 -o ro /dev/vda /mnt && [ "$(cat /mnt/written)" = hello ] && umount /mnt
}

serials() {
	[ "$(cat /sys/block/vda/serial)" = root ] && [ "$(cat /sys/block/vdb/serial)" = S-123 ]
}

readonly_disk() {
	[ "$(cat /sys/block/vdb/ro)" = 1 ] && ! dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null
}

clock() { # the host's clock is ours, to the second or two
	delta=$(($(date +%s) - $(arg want_now)))
	echo "$delta s after the host's start of the VM"
	[ "$delta" -ge -2 ] && [ "$delta" -lt 120 ] && grep -q kvm-clock /sys/devices/system/clocksource/clocksource0/available_clocksource
}

vsock_out() {
	[ "$(echo to-host | socat -t5 - VSOCK-CONNECT:2:5000)" = "host got to-host" ]
}

quiet_kernel() { # nothing that a person would have to look into
	! dmesg -r | grep -E '^<[0-3]>' | grep -vE 'Kernel command line|sr0|loop:'
}

check "the guest sees its CPUs" right_cpus
check "the guest sees its memory" right_memory
check "the guest finds every device" virtio_devices
check "every device has its driver" drivers_bound
check "ext4 on a virtio disk mounts, is written and keeps it" file_system
check "disks carry their serial numbers" serials
check "a read-only disk cannot be written" readonly_disk
check "the clock is right" clock
check "the network comes up" network_up
check "the guest pings the host" ping -c 3 -i 0.2 -W 5 10.9.0.1
check "iperf3 to the host" iperf3 -c 10.9.0.1 -t 1
check "iperf3 from the host" iperf3 -R -c 10.9.0.1 -t 1
check "vsock from the guest to the host" vsock_out
socat VSOCK-LISTEN:7000 SYSTEM:'read line; echo "guest got $line"' &
echo "READY 7000"
wait
check "the kernel reports no error" quiet_kernel
