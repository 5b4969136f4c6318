# Data written through every cache mode and number of queues reads back as it was written.
for disk in /sys/block/vd*; do
	name=${disk##*/}
	queues=$(ls "$disk/mq" | wc -l)
	check "fio --verify on $(cat "$disk/serial") ($queues queues)" \
		fio --name=v --filename="/dev/$name" --direct=1 --ioengine=libaio --rw=randwrite --bsrange=512-65536 \
		--bs_unaligned=0 --blockalign=512 --iodepth=16 --numjobs=1 --size=8M --verify=crc32c --verify_fatal=1 \
		--do_verify=1 --randseed=7 --minimal
	check "discard and write-zeroes on $(cat "$disk/serial")" sh -c \
		"/bin/blkdiscard -o 1048576 -l 1048576 /dev/$name && /bin/blkdiscard -z -o 4194304 -l 1048576 /dev/$name && \
		dd if=/dev/$name bs=1M skip=4 count=1 iflag=direct 2>/dev/null | cmp -n 1048576 - /dev/zero"
done
