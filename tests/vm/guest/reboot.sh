# Counts its boots on a disk; reboots until it has been here three times.
n=$(dd if=/dev/vda bs=512 count=1 2>/dev/null | tr -d '\0')
n=$((${n:-0} + 1))
printf '%-511s\n' "$n" | dd of=/dev/vda bs=512 count=1 conv=notrunc,fsync 2>/dev/null
echo "BOOT $n"
if [ "$n" -lt 3 ]; then
	sync
	sleep 1
	reboot -f
	sleep 100
fi
