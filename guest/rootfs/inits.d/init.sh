#!/bin/sh
# The least that a shell can do as process 1 for Docker: no supervision, no reaping by name, no orderly end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir /sys/fs/cgroup/services
echo 0 >/sys/fs/cgroup/services/cgroup.procs
sed 's/[a-z]*/+&/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
bulkhead-agent &
containerd &
probe &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.02; done
dockerd --host=unix:///run/docker.sock --containerd=/run/containerd/containerd.sock &
while :; do wait; sleep 1; done
