# Sixteen streams at once, both ways; sums are compared by the host.
size=$((20 * 1024 * 1024 / 16))
mkdir -p /tmp/in
i=0
while [ $i -lt 16 ]; do
	head -c $size /dev/urandom >/tmp/out.$i
	socat -u VSOCK-LISTEN:$((6200 + i)) CREATE:/tmp/in/$i &
	i=$((i + 1))
done
echo "READY 6200"
i=0
while [ $i -lt 16 ]; do
	socat -u OPEN:/tmp/out.$i VSOCK-CONNECT:2:$((5100 + i)) &
	i=$((i + 1))
done
wait
i=0
while [ $i -lt 16 ]; do
	echo "SUM out $i $(sha256sum </tmp/out.$i | cut -d' ' -f1)"
	echo "SUM in $i $(sha256sum </tmp/in/$i | cut -d' ' -f1)"
	i=$((i + 1))
done
check "a stream to a port where nobody listens is refused" sh -c '! socat -u OPEN:/etc/passwd VSOCK-CONNECT:2:9999 2>/dev/null'
