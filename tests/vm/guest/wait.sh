# Waits for the power button, or for what the host types.
echo "READY 0"
while read -r line; do
	echo "GOT $line"
done
sleep 1000
