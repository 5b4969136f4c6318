"""The sections, the rows of their table and the marks.

A row: key, title, unit, which way is better.
"""
SECTIONS = ["start", "control", "snapshots", "boot", "count", "paths", "block", "network", "plug", "db"]
LOCAL = ["start", "control", "snapshots"]  # those that any /dev/kvm is good for: no guest works in them, or one without an operating system
TOGETHER = ["plug", "db", "snapshots"]  # those that see to the turns of their monitors themselves
COUNTING = ["count", "paths"]  # those that need the clock that counts instructions
PEERS = ["qemu-microvm", "qemu-q35"]
BARE = "bare"  # no monitor: the database's container on the host itself
FLAVOURS = ["6.1", "6.1-cloud"]
RAM = [256, 1024, 4096, 16384]  # MiB of the machines that are saved and restored
FIO = [("read_4k_qd1", "4 KiB random read, depth 1"), ("write_4k_qd1", "4 KiB random write, depth 1"),
       ("read_4k_qd32", "4 KiB random read, depth 32"), ("write_4k_qd32", "4 KiB random write, depth 32"),
       ("write_4k_fsync", "4 KiB random write, each flushed")]
# name, sysbench's script, threads, in words
LOADS = [("rw1", "oltp_read_write", 1, "read and write, 1 client"),
         ("rw8", "oltp_read_write", 8, "read and write, 8 clients"),
         ("ps1", "oltp_point_select", 1, "point select, 1 client"),
         ("ps8", "oltp_point_select", 8, "point select, 8 clients")]
STAGES = [("db_init_s", "init"), ("db_agent_s", "the agent's first answer"), ("db_docker_s", "Docker ready"),
          ("db_sql_s", "the first SQL answer")]

ROWS = [
    ("first_ms", "process start to the first instruction", "ms", "less"),
    ("bare_cpu_ms", "CPU time before it, 512 MiB of RAM, smallest kernel", "ms", "less"),
    ("start_cpu_ms", "CPU time before it, 512 MiB of RAM, 6.1-cloud", "ms", "less"),
    ("start_calls", "system calls before it", "", "less"),
    ("start_pss_kib", "memory beside the guest, PSS", "KiB", "less"),
    ("start_dirty_kib", "memory beside the guest, private dirty", "KiB", "less"),
    ("call_p50_us", "a call (vm.info, query-status), median", "µs", "less"),
    ("call_p99_us", "a call, 99th percentile", "µs", "less"),
    ("client_pss_kib", "memory of an idle connection, PSS", "KiB", "less"),
    ("client_dirty_kib", "memory of an idle connection, private dirty", "KiB", "less"),
] + [row for k in FLAVOURS for row in (
    (f"boot_{k}_s", f"{k}: process start to init", "s", "less"),
    (f"boot_{k}_cpu_s", f"{k}: CPU time to init", "s", "less"),
    (f"boot_{k}_exits", f"{k}: exits to init", "", "less"),
    (f"boot_{k}_pss_kib", f"{k}: memory beside the guest at init, PSS", "KiB", "less"),
    (f"boot_{k}_dirty_kib", f"{k}: memory beside the guest at init, private dirty", "KiB", "less"),
)] + [
    ("count_start_minsn", "instructions before the first of the guest, 6.1-cloud", "million", "less"),
] + [row for k in FLAVOURS for row in (
    (f"count_{k}_exits", f"{k}: exits to init, by counting clock", "", "less"),
    (f"count_{k}_port_exits", f"{k}: of these by port I/O", "", "less"),
    (f"count_{k}_faults", f"{k}: of these nested page faults", "", "less"),
    (f"count_{k}_minsn", f"{k}: instructions to init", "million", "less"),
)] + [(f"{key}_iops", title, "IOPS", "more") for key, title in FIO] + [
    ("read_1m_kib", "1 MiB sequential read", "KiB/s", "more"),
    ("write_1m_kib", "1 MiB sequential write", "KiB/s", "more"),
    ("tx_mbit", "network, guest to host", "Mbit/s", "more"),
    ("rx_mbit", "network, host to guest", "Mbit/s", "more"),
    ("ping_us", "ping round trip", "µs", "less"),
] + [
    ("plug_seen_ms", "disk attach, until the guest has it", "ms", "less"),
    ("plug_attach_ms", "disk attach, until the host knows it", "ms", "less"),
    ("plug_attach_exits", "disk attach: exits", "", "less"),
    ("plug_detach_ms", "disk detach (ours: asks the agent who uses it)", "ms", "less"),
    ("plug_detach_exits", "disk detach: exits", "", "less"),
    ("plug_force_ms", "disk detach (ours: by force)", "ms", "less"),
    ("plug_force_exits", "disk detach, by force: exits", "", "less"),
] + [row for key, title in FIO for row in (
    (f"path_{key}_kinsn", f"{title}: instructions for each", "thousand", "less"),
    (f"path_{key}_exits", f"{title}: exits for each", "", "less"),
)] + [row for key, title in (("read_1m", "1 MiB sequential read"), ("write_1m", "1 MiB sequential write"),
                             ("tx", "network, guest to host"), ("rx", "network, host to guest")) for row in (
    (f"path_{key}_kinsn", f"{title}: instructions per MiB", "thousand", "less"),
    (f"path_{key}_exits", f"{title}: exits per MiB", "", "less"),
)] + [("path_ping_kinsn", "ping: instructions for each", "thousand", "less")] + [
    (key, f"database: process start to {what}", "s", "less") for key, what in STAGES
] + [("db_sql_exits", "database: exits to the first SQL answer", "", "less")] + [row for name, _, _, what in LOADS for row in (
    (f"db_{name}_tps", f"database: {what}", "transactions/s", "more"),
    (f"db_{name}_p99_ms", f"database: {what}, 99th percentile", "ms", "less"),
    (f"db_{name}_exits", f"database: {what}: exits for each transaction", "", "less"),
)] + [row for ram in RAM for row in (
    (f"snap_background_said_{ram}_ms", f"{ram} MiB: pause of a background snapshot, as the monitor says", "ms", "less"),
    (f"snap_background_{ram}_ms", f"{ram} MiB: longest pause of the guest with a background snapshot", "ms", "less"),
    (f"snap_incremental_{ram}_ms", f"{ram} MiB: the same with an incremental one of 64 MiB, written in the pause", "ms", "less"),
    (f"snap_full_{ram}_ms", f"{ram} MiB: the same with a full one, written in the pause", "ms", "less"),
    (f"restore_first_{ram}_ms", f"{ram} MiB: restore, process start to the first instruction", "ms", "less"),
    (f"restore_slots_{ram}_ms", f"{ram} MiB: KVM's own time to be told of that memory and to track it", "ms", "less"),
    (f"restore_less_{ram}_ms", f"{ram} MiB: restore to the first instruction without it", "ms", "less"),
    (f"restore_answer_{ram}_ms", f"{ram} MiB: restore, process start to the first answer", "ms", "less"),
)] + [
    ("snap_background_said_growth_ms", "pause of a background snapshot: 16 GiB less 256 MiB", "ms", "less"),
    ("restore_first_growth_ms", "restore to the first instruction: 16 GiB less 256 MiB", "ms", "less"),
    ("restore_less_growth_ms", "the same without KVM's own time for memory slots", "ms", "less"),
    ("clones_per_s", "clones of 256 MiB until each guest runs", "clones/s", "more"),
    ("clone_private_kib", "private memory of a clone that has written nothing", "KiB", "less"),
    ("snap_write_mib", "a full snapshot of 1 GiB, checksums and flush included", "MiB/s", "more"),
    ("snap_dd_mib", "dd of the same bytes, direct, with flush", "MiB/s", "more"),
    ("snap_write_of_dd", "the snapshot's share of dd's rate", "", "more"),
    ("track_first_ns", "first write to a page under tracking", "ns", "less"),
    ("track_again_ns", "second write to it", "ns", "less"),
] + [row for how in ("bitmap", "ring") for row in (
    (f"track_{how}_untracked_write_ns", f"{how}: write without tracking", "ns", "less"),
    (f"track_{how}_first_write_ns", f"{how}: first write to a page", "ns", "less"),
    (f"track_{how}_rewrite_ns", f"{how}: write to a page that is dirty", "ns", "less"),
    (f"track_{how}_protect_again_ns", f"{how}: a page fetched is protected again", "ns", "less"),
    (f"track_{how}_start_us", f"{how}: tracking of 4 GiB begins", "µs", "less"),
    (f"track_{how}_fetch_us", f"{how}: 20,000 dirty pages of 4 GiB are fetched", "µs", "less"),
    (f"track_{how}_fetch_nothing_us", f"{how}: nothing is dirty", "µs", "less"),
)]
# Facts of what the database's VM boots from: the same for each monitor, so that there is nothing to compare.
SIZES = [("db_kernel_mib", "kernel, as loaded"), ("db_root_mib", "root disk, used"), ("db_image_mib", "image")]

# key, limit for our own median, the most or, where more is better, the least; in words
MARKS = [
    ("start_cpu_ms", 5, "CPU time to the first guest instruction, ms"),
    ("start_calls", 200, "system calls before it"),
    ("start_pss_kib", 1536, "memory beside the guest, PSS, KiB"),
    ("start_dirty_kib", 512, "memory beside the guest, private dirty, KiB"),
    ("call_p99_us", 200, "vm.info, 99th percentile, µs"),
    ("boot_6.1_pss_kib", 1536, "the same when the guest has booted, PSS, KiB"),
    ("boot_6.1_dirty_kib", 512, "the same when the guest has booted, private dirty, KiB"),
    ("count_6.1_exits", 2800, "stock 6.1 vmlinux: exits to init"),
    ("count_6.1-cloud_exits", 34780, "6.1-cloud: exits to init, kvmtool's row of LESSONS"),
    ("count_6.1-cloud_minsn", 1830, "6.1-cloud: million instructions to init, kvmtool's row of LESSONS"),
    ("count_6.1-cloud_exits", 5680, "6.1-cloud: exits to init, kvmtool's with RAM aligned to 2 MiB"),
    ("count_6.1-cloud_minsn", 1740, "6.1-cloud: million instructions to init, kvmtool's with RAM aligned"),
] + [(f"snap_background_said_{ram}_ms", 5, f"{ram} MiB: pause of a background snapshot, ms") for ram in RAM] + [
    (f"restore_first_{ram}_ms", 5, f"{ram} MiB: restore, process start to the first instruction, ms") for ram in RAM
] + [
    (f"restore_less_{ram}_ms", 5, f"{ram} MiB: the same without KVM's own time for memory slots, ms") for ram in RAM
] + [
    ("snap_background_said_growth_ms", 1, "the pause is flat: 16 GiB less 256 MiB, ms"),
    ("restore_first_growth_ms", 1, "the restore is flat: 16 GiB less 256 MiB, ms"),
    ("restore_less_growth_ms", 1, "the same without KVM's own time for memory slots, ms"),
    ("clone_private_kib", 1024, "private memory of a clone that has written nothing, KiB"),
    ("snap_write_of_dd", 0.8, "writing a snapshot, share of dd's rate"),
]
# dd is the peer there: QEMU's share says nothing of ours.
BESIDE_DD = ["snap_write_mib", "snap_dd_mib", "snap_write_of_dd"]
# key, peer, limit for the median of the ratio
RATIO_MARKS = [("count_6.1_minsn", "qemu-microvm", 0.6)] + [
    (key, peer, 1.0) for key, _, _, way in ROWS if way == "more" and key not in BESIDE_DD for peer in PEERS
] + [("ping_us", peer, 1.0) for peer in PEERS] + [
    (key, peer, 1.0) for key, _, _, _ in ROWS if key.startswith("path_") and key.endswith("_kinsn") for peer in PEERS
] + [(key, "qemu-q35", 1.0) for key, _, _, way in ROWS if key.startswith("db_") and way == "less"] + [
    (f"plug_{key}_ms", "qemu-q35", 0.5) for key in ("seen", "attach", "detach", "force")]
# These count on hardware only: in the rig an exit costs some twenty times what it does there, and a container has none.
HARDWARE_MARKS = [(f"db_{name}_tps", BARE, 0.9) for name, _, _, _ in LOADS] + [
    (f"db_{name}_p99_ms", BARE, 1.1) for name, _, _, _ in LOADS]


OURS_ONLY = ("snap_incremental", "snap_background_said_growth", "restore_first_growth", "restore_slots", "restore_less", "track_bitmap", "track_ring")


def has(contestant, key):
    """Whether a row is one that a contestant can have."""
    if key.startswith("client_"):
        return contestant == "bulkhead"  # QEMU serves one client for each socket
    if key.startswith(("snap_", "restore_", "clone", "track_")):
        return contestant == "bulkhead" or contestant == "qemu-microvm" and not key.startswith(OURS_ONLY)
    if contestant == BARE:
        return key == "db_sql_s" or key.startswith("db_") and key.endswith(("_tps", "_p99_ms"))
    return contestant != "qemu-microvm" or not key.startswith(("db_", "plug_"))


def contestants(section, names):
    left_out = {"db": ["qemu-microvm"], "plug": ["qemu-microvm", BARE], "snapshots": ["qemu-q35", BARE]}.get(section, [BARE])
    return [name for name in names if name not in left_out]
