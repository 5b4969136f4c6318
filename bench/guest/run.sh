#!/bin/sh
# The guest's side of the block and network benches: runs what bench=NAME of the kernel command line says, with the
# programs of the disk whose serial number is "tools".
#
# Lines for the host: "BENCH begin NAME" and "BENCH end NAME" around each measurement, so that the host can read its
# own counters there, and "RESULT KEY VALUE", in the units that bench/run knows.
arg() {
	# shellcheck disable=SC2013 # words are what is wanted
	for word in $(cat /proc/cmdline); do
		case $word in "$1"=*) echo "${word#*=}" && return ;; esac
	done
	echo "$2"
}

disk() { # SERIAL: names depend on the order in which a machine presents its disks
	tries=0
	while [ "$tries" -le 500 ]; do
		for at in /sys/block/vd*; do
			[ "$(cat "$at/serial" 2>/dev/null)" = "$1" ] && echo "/dev/${at##*/}" && return
		done
		tries=$((tries + 1))
		usleep 10000
	done
	echo "no disk $1 here" >&2
}

tools() {
	mount -t ext4 -o ro,noload "$(disk tools)" /mnt || exit 1
	for at in dev proc sys; do mount --bind "/$at" "/mnt/$at"; done
	mount -t tmpfs tmp /mnt/tmp
}

seconds=$(arg seconds 3)
requests=$(arg requests 0) # so many instead, 1 MiB for every eight, where time is counted in instructions

fio_row() { # NAME SIZE-OF-A-REQUEST-IN-KIB FIO-OPTIONS...
	name=$1
	size=$2
	shift 2
	if [ "$requests" -eq 0 ]; then
		set -- "$@" --time_based --runtime="$seconds"
	elif [ "$size" -gt 4 ]; then
		set -- "$@" --io_size="$((requests * size / 8))k"
	else
		set -- "$@" --io_size="$((requests * size))k"
	fi
	echo "BENCH begin $name"
	chroot /mnt /bin/fio --name="$name" --filename="$target" --size=128m --bs="${size}k" --direct=1 \
		--ioengine=libaio --norandommap --randrepeat=1 --output-format=terse --terse-version=3 "$@" \
		>/tmp/fio.out 2>&1
	echo "BENCH end $name"
	# Fields: 6 and 47 KiB read and written, 7 and 48 KiB/s, 8 and 49 IOPS, 9 and 50 milliseconds.
	awk -F';' -v n="$name" '$1 == 3 { printf "RESULT %s_iops %.1f\nRESULT %s_kib %.1f\nRESULT %s_ms %d\n",
		n, $8 + $49, n, $7 + $48, n, ($9 > $50 ? $9 : $50); good = 1 }
		END { if (!good) exit 1 }' /tmp/fio.out || cat /tmp/fio.out
}

block() {
	target=$(disk bench)
	chroot /mnt /bin/fio --version >/dev/null # its libraries come into the page cache
	fio_row read_4k_qd1 4 --rw=randread --iodepth=1
	fio_row write_4k_qd1 4 --rw=randwrite --iodepth=1
	fio_row read_4k_qd32 4 --rw=randread --iodepth=32
	fio_row write_4k_qd32 4 --rw=randwrite --iodepth=32
	fio_row read_1m 1024 --rw=read --iodepth=4
	fio_row write_1m 1024 --rw=write --iodepth=4
	fio_row write_4k_fsync 4 --rw=randwrite --iodepth=1 --fsync=1
}

stream() { # NAME IPERF3-OPTIONS...
	name=$1
	shift
	if [ "$requests" -eq 0 ]; then
		set -- "$@" -t "$seconds"
	else
		set -- "$@" -n "$((requests / 16))M"
	fi
	echo "BENCH begin $name"
	chroot /mnt /bin/iperf3 -c 10.9.0.1 -f m "$@" >/tmp/out 2>&1
	echo "BENCH end $name"
	awk -v n="$name" '/receiver/ { print "RESULT " n "_mbit " $7; good = 1 } END { exit !good }' /tmp/out ||
		cat /tmp/out
}

network() {
	ip addr add 10.9.0.2/24 dev eth0
	ip link set eth0 up
	ping -c 2 -W 5 10.9.0.1 >/dev/null
	stream tx
	stream rx -R
	echo "BENCH begin ping"
	chroot /mnt /bin/ping -q -c "$(arg pings 200)" -i 0.002 10.9.0.1 >/tmp/out 2>&1
	echo "BENCH end ping"
	awk -F'[/ ]' '/^rtt/ { print "RESULT ping_us " $8 * 1000; good = 1 } END { exit !good }' /tmp/out || cat /tmp/out
}

tools
"$(arg bench block)"
echo "BENCH done"
