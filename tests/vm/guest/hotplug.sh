# Does what the host types: says what the guest has, puts it to use, fills memory.
bulkhead-agent >/dev/null 2>&1 &

mib() { echo $(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024)); }

echo "READY 0"
while read -r line; do
	case $line in
	cpus) echo "CPUS $(grep -c ^processor /proc/cpuinfo)" ;;
	online) # as a udev rule would
		for cpu in /sys/devices/system/cpu/cpu[0-9]*/online; do
			[ "$(cat "$cpu")" = 1 ] || echo 1 >"$cpu"
		done
		echo "ONLINE"
		;;
	work) # on every processor there is
		n=$(grep -c ^processor /proc/cpuinfo)
		i=0
		while [ $i -lt "$n" ]; do
			taskset "$(printf %x $((1 << i)))" sh -c 'i=0; while [ $i -lt 1000 ]; do i=$((i + 1)); done' || echo "CHECK fail processor $i does not work: "
			i=$((i + 1))
		done
		echo "WORKED $n"
		;;
	errors) dmesg -r | grep -E '^<[0-3]>' | grep -vE 'Kernel command line|sr0|loop:' && echo "CHECK fail the kernel complains: see above" ;;
	memory) echo "MIB $(mib)" ;;
	fill*) # so many MiB, in pieces that are looked at afterwards
		head -c 1048576 /dev/urandom >/tmp/piece
		mount -t tmpfs -o size=100% fill /mnt
		i=0
		while [ $i -lt "${line#fill }" ]; do
			cp /tmp/piece "/mnt/$i" || echo "CHECK fail piece $i does not fit: "
			i=$((i + 1))
		done
		while [ $i -gt 0 ]; do
			i=$((i - 20))
			cmp /tmp/piece "/mnt/$i" || echo "CHECK fail piece $i is another: "
		done
		umount /mnt
		echo "FILLED ${line#fill }"
		;;
	disk*) # so many MiB, by way of the page cache: which is in memory that can move, so in what came
		head -c 1048576 /dev/urandom >/tmp/piece
		i=0
		while [ $i -lt "${line#disk }" ]; do
			dd if=/tmp/piece of=/dev/vda bs=1M seek=$i conv=notrunc 2>/dev/null
			i=$((i + 1))
		done
		sync
		echo 3 >/proc/sys/vm/drop_caches
		while [ $i -gt 0 ]; do
			i=$((i - 1))
			dd if=/dev/vda bs=1M skip=$i count=1 2>/dev/null | cmp - /tmp/piece || echo "CHECK fail piece $i on the disk is another: "
		done
		echo "COPIED ${line#disk }"
		;;
	end) break ;;
	esac
	echo "DONE"
done
