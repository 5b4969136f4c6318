# Four writers, each record flushed before it is announced; the host pulls the plug.
writer() { # REGION
	n=0
	while :; do
		n=$((n + 1))
		printf '%s %08d ' "region-$1" "$n" | dd of=/dev/vda bs=4096 seek=$(($1 * 1024 + n % 1024)) count=1 conv=notrunc,sync,fsync 2>/dev/null &&
			echo "FLUSHED $1 $n"
	done
}
for region in 0 1 2 3; do
	writer $region &
done
wait
