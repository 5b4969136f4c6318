"""The monitors that are compared, as command lines for the same guest: Bulkhead and two machines of QEMU."""
import os


class Guest:
    """What every monitor is to run. Disks are (path, serial number, read-only); vsock is (CID, path of our bridge); control is the
    path of the monitor's own socket; slot: a disk is to be hot-plugged."""

    def __init__(self, kernel, initrd=None, cmdline="", cpus=1, memory=512, disks=(), tap=None, paused=False, vsock=None, control=None,
                 slot=False):
        self.kernel, self.initrd, self.cmdline = kernel, initrd, cmdline
        self.cpus, self.memory, self.disks, self.tap, self.paused = cpus, memory, disks, tap, paused
        self.vsock, self.control, self.slot = vsock, control, slot


class Bulkhead:
    name = "bulkhead"

    def __init__(self, binary):
        self.binary = binary

    def command(self, guest):
        words = [self.binary, "run", "--kernel", guest.kernel, "--cpus", str(guest.cpus),
                 "--memory", f"{guest.memory}M", "--cmdline", guest.cmdline]
        if guest.initrd:
            words += ["--initrd", guest.initrd]
        for path, serial, readonly in guest.disks:
            words += ["--disk", f"path={path},serial={serial},cache=none" + (",readonly" if readonly else "")]
        if guest.tap:
            words += ["--net", f"tap={guest.tap}"]
        if guest.vsock:
            words += ["--vsock", f"cid={guest.vsock[0]},socket={guest.vsock[1]}"]
        if guest.paused:
            words += ["--paused"]
        if guest.control:
            words += ["--control", guest.control]
        return words

    def agent(self, guest):
        """Where the guest's agent is called: our bridge's socket, or an address of vhost-vsock."""
        return guest.vsock[1]


class Qemu:
    """Options that both machines share; each disk has an I/O thread, as an operator would set it up."""

    binary = "qemu-system-x86_64"

    def command(self, guest, incoming=None):
        # The software KVM of some build machines has no architectural capabilities to pass on.
        cpu = "host,-arch-capabilities" if os.path.isdir("/sys/module/kvm_pvm") else "host"
        words = [self.binary, "-M", self.machine, "-enable-kvm", "-cpu", cpu, "-smp", str(guest.cpus),
                 "-m", str(guest.memory), "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
                 "-no-reboot", "-kernel", guest.kernel, "-append", guest.cmdline]
        if guest.initrd:
            words += ["-initrd", guest.initrd]
        if guest.paused:
            words += ["-S"]
        if guest.control:
            words += ["-qmp", f"unix:{guest.control},server=on,wait=off"]
        for n, (path, serial, readonly) in enumerate(guest.disks):
            words += ["-object", f"iothread,id=io{n}", "-drive",
                      f"file={path},if=none,id=d{n},format=raw,cache=none,aio=io_uring"
                      + (",readonly=on" if readonly else ""),
                      "-device", f"virtio-blk-{self.bus},drive=d{n},iothread=io{n},serial={serial}{self.options}"]
        if incoming:
            words += ["-incoming", incoming]
        if guest.slot:
            words += ["-device", "pcie-root-port,id=port0,chassis=1", "-object", "iothread,id=plugio"]
        if guest.tap:
            words += ["-netdev", f"tap,id=n0,ifname={guest.tap},script=no,downscript=no,vhost=off",
                      "-device", f"virtio-net-{self.bus},netdev=n0{self.options}"]
        if guest.vsock:
            words += ["-device", f"vhost-vsock-{self.bus},guest-cid={guest.vsock[0]}"]
        return words

    def agent(self, guest):
        return guest.vsock[0]


class QemuMicrovm(Qemu):
    name, machine, bus, options = "qemu-microvm", "microvm", "device", ""


class QemuQ35(Qemu):
    name, machine, bus, options = "qemu-q35", "q35", "pci", ",disable-legacy=on"
