"""The state of a snapshot as bytes that can be changed: docs/snapshot-format.md, "state". Checksums are reseal_snapshot's to mend."""
import struct

OPTIONAL = 1


class Section:
    def __init__(self, version, flags, name, instance, body):
        self.version, self.flags, self.name, self.instance, self.body = version, flags, name, instance, body

    def bytes(self):
        return struct.pack("<IHHBB", len(self.body), self.version, self.flags, len(self.name), len(self.instance)) + \
            self.name.encode() + self.instance.encode() + bytes(self.body)


def fields(body):
    """(name, where its payload begins, its length) of each field; `body` may be a section's or an element's."""
    at = 0
    while at < len(body):
        size, length = struct.unpack_from("<IB", body, at)
        start = at + 8 + length
        yield bytes(body[at + 8:start]).decode(), start, size
        at = start + size


def elements(body, start, size):
    """Where each element of a list begins, and its length."""
    at = start
    while at < start + size:
        length, = struct.unpack_from("<I", body, at)
        yield at + 4, length
        at += 4 + length


def number(name, value, width=4, flags=0):
    """A field of one number."""
    return struct.pack("<IBBBB", width, len(name), 1, width, flags) + name.encode() + value.to_bytes(width, "little")


class StateFile:
    def __init__(self, path):
        self.path, self.sections = path, []
        with open(path, "rb") as file:
            data = file.read()
        self.format, = struct.unpack_from("<I", data, 8)
        at = 16
        while True:
            size, version, flags, name, instance = struct.unpack_from("<IHHBB", data, at)
            at += 10
            if not name:
                break
            words = data[at:at + name + instance].decode()
            at += name + instance
            self.sections.append(Section(version, flags, words[:name], words[name:], bytearray(data[at:at + size])))
            at += size

    def find(self, name):
        return next(section for section in self.sections if section.name == name)

    def write(self):
        with open(self.path, "wb") as file:
            file.write(b"BHSTATE\0" + struct.pack("<II", self.format, 0) + b"".join(section.bytes() for section in self.sections) +
                       bytes(10) + bytes(8))

    def cpuid(self, leaf):
        """Where the registers of this leaf (of its subleaf 0) are in the CPU model's section: {"ebx": offset, ...}."""
        body = self.find("cpu_model").body
        for name, start, size in fields(body):
            for element, length in elements(body, start, size) if name.endswith("entries") else ():
                entry = {field: element + at for field, at, _ in fields(body[element:element + length])}
                if struct.unpack_from("<I", body, entry["function"]) + struct.unpack_from("<I", body, entry["index"]) == (leaf, 0):
                    return entry
        raise KeyError(f"no leaf {leaf:#x}")
