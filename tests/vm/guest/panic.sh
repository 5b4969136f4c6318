# A kernel panic.
echo 1 >/proc/sys/kernel/sysrq
echo "READY 0"
echo c >/proc/sysrq-trigger
sleep 100
