# The network under load: several streams, both ways, with the queue pairs that were given.
check "the network comes up" network_up
check "the guest has its queue pairs" sh -c "[ \$(ls -d /sys/class/net/eth0/queues/rx-* | wc -l) = $(arg want_queues 1) ]"
check "mtu is as given" [ "$(cat /sys/class/net/eth0/mtu)" = "$(arg want_mtu 1500)" ]
check "mac is as given" [ "$(cat /sys/class/net/eth0/address)" = "$(arg want_mac)" ]
check "ping with full-size frames" ping -c 3 -i 0.2 -s 1400 -W 5 10.9.0.1
check "iperf3, 4 streams to the host" iperf3 -c 10.9.0.1 -P 4 -t 2
check "iperf3, 4 streams from the host" iperf3 -R -c 10.9.0.1 -P 4 -t 2
check "iperf3, UDP flood from the host does not stop receiving" sh -c \
	'iperf3 -R -u -b 0 -c 10.9.0.1 -t 2; ping -c 3 -i 0.2 -W 5 10.9.0.1'
