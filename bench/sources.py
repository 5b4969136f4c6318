"""Where a VM's exits come from: histograms of KVM's trace events, kept by the kernel, which costs each exit a little.

Exits are told apart by their reason; those for an MSR, for memory that is a device's and for a port by what was accessed
too. AMD's reasons and Intel's are named alike. Without tracefs, or in a kernel without CONFIG_HIST_TRIGGERS, there is
nothing to tell.
"""
import os
import re

TRACING = "/sys/kernel/tracing"
EVENTS = {"kvm_exit": "exit_reason,isa", "kvm_msr": "ecx,write", "kvm_mmio": "gpa,type", "kvm_fast_mmio": "gpa",
          "kvm_pio": "port"}

SVM, VMX = 2, 1
MSR, MEMORY, PORT = "MSR", "memory", "port"
REASONS = {
    SVM: {0x60: "external interrupt", 0x64: "interrupt window", 0x72: "CPUID", 0x77: "PAUSE", 0x78: "HLT", 0x7b: PORT,
          0x7c: MSR, 0x81: "hypercall", 0x8d: "XSETBV", 0x400: MEMORY, 0x401: "AVIC", 0x402: "AVIC"},
    VMX: {0: "exception", 1: "external interrupt", 7: "interrupt window", 10: "CPUID", 12: "HLT", 18: "hypercall",
          28: "control register", 30: PORT, 31: MSR, 32: MSR, 40: "PAUSE", 44: "local APIC", 45: "EOI", 48: MEMORY,
          49: MEMORY, 52: "TSC deadline (preemption timer)", 55: "XSETBV", 56: "local APIC"}}
MSRS = {0x6e0: "TSC deadline", 0x830: "interrupt to another CPU (x2APIC ICR)", 0x80b: "EOI (x2APIC)", 0x838: "APIC timer",
        0x10: "TSC", 0x4b564d05: "kvmclock: halt polling"}
WRITE = 2  # of kvm_mmio's types


class Sources:
    """Counts while it is entered. `devices` tells a device by an address: [(first, last, name)]."""

    def __init__(self, pid, devices):
        self.threads = {int(n) for n in os.listdir(f"/proc/{pid}/task")}
        self.devices = devices
        self.folder = f"{TRACING}/instances/bulkhead-bench-{os.getpid()}"
        self.counts = {}

    def trigger(self, event):
        return f"{self.folder}/events/kvm/{event}/trigger"

    def __enter__(self):
        os.mkdir(self.folder)
        try:
            for event, keys in EVENTS.items():
                if os.path.exists(self.trigger(event)):
                    with open(self.trigger(event), "w") as f:
                        f.write(f"hist:keys={keys},common_pid:size=4096")
        except OSError:
            os.rmdir(self.folder)
            raise
        return self

    def __exit__(self, *exc):
        for event in EVENTS:
            self.counts[event] = self.read(event) if os.path.exists(self.trigger(event)) else {}
        # Triggers go first: an instance with one of its own histograms in use is not removed by every kernel.
        for event, keys in EVENTS.items():
            if os.path.exists(self.trigger(event)):
                with open(self.trigger(event), "w") as f:
                    f.write(f"!hist:keys={keys},common_pid:size=4096")
        os.rmdir(self.folder)

    def read(self, event):
        """{values of the keys: count} of our threads."""
        names, found = EVENTS[event].split(","), {}
        with open(self.trigger(event).replace("trigger", "hist")) as f:
            for line in f:
                hits = re.match(r"^\{(.*)\} *hitcount: *(\d+)", line)
                fields = dict(re.findall(r"(\w+): *(-?\w+)", hits[1])) if hits else {}
                if fields and int(fields["common_pid"]) in self.threads:
                    key = tuple(int(fields[name], 0) for name in names)
                    found[key] = found.get(key, 0) + int(hits[2])
        return found

    def device(self, address):
        return next((name for first, last, name in self.devices if first <= address <= last), f"at {address:#x}")

    def parts(self):
        """{source: count}: together all exits that were seen."""
        out, whole = {}, {MSR: 0, MEMORY: 0, PORT: 0}

        def add(name, count):
            if count:
                out[name] = out.get(name, 0) + count

        for (reason, isa), count in self.counts["kvm_exit"].items():
            name = REASONS[isa].get(reason & 0xffff, f"reason {reason & 0xffff:#x}")
            if name in whole:
                whole[name] += count
            else:
                add(name, count)
        for (register, write), count in self.counts["kvm_msr"].items():
            add(f"MSR {'write' if write else 'read'}: {MSRS.get(register, hex(register))}", count)
            whole[MSR] -= count
        for (address, kind), count in self.counts["kvm_mmio"].items():
            add(f"{'write' if kind == WRITE else 'read'}: {self.device(address)}", count if kind else 0)
            whole[MEMORY] -= count if kind else 0
        for (address,), count in self.counts["kvm_fast_mmio"].items():
            add(f"write: {self.device(address)}", count)
            whole[MEMORY] -= count
        for (port,), count in self.counts["kvm_pio"].items():
            add(f"port {port:#x}", count)
            whole[PORT] -= count
        add("MSR, others", max(0, whole[MSR]))
        add("nested page fault", max(0, whole[MEMORY]))
        add("port, others", max(0, whole[PORT]))
        return out
