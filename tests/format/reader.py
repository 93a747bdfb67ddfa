#!/usr/bin/env python3
"""A reader of checkpoints, written from docs/format.md alone: its tables are taken from that page when it starts.

    python3 tests/format/reader.py FILE

prints what `stasis checkpoint show --json FILE` prints, or says why the file is refused. It needs nothing but
Python's standard library.
"""

import hashlib
import json
import pathlib
import re
import struct
import sys

PAGE = 4096
MAGIC = b"STASIS\r\n"
MEMORY, END = 0x0040, 0x7FFF
RAM_BLOCK, RAM_PAGES, RAM_DIRECTORY, PAD = 0x0041, 0x0042, 0x0043, 0x0044
BLOCK = 2 << 20
SPECIFICATION = pathlib.Path(__file__).resolve().parents[2] / "docs" / "format.md"


class Refused(Exception):
    """The file breaks a rule."""


def need(condition, rule):
    if not condition:
        raise Refused(rule)


# CRC-32C, eight bytes at a time.


def crc_tables():
    first = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        first.append(byte)
    tables = [first]
    for _ in range(7):
        tables.append([crc >> 8 ^ first[crc & 0xFF] for crc in tables[-1]])
    return tables


T0, T1, T2, T3, T4, T5, T6, T7 = crc_tables()


def crc32c(data):
    crc = 0xFFFFFFFF
    whole = len(data) & ~7
    for low, high in struct.iter_unpack("<II", data[:whole]):
        low ^= crc
        crc = (
            T7[low & 0xFF] ^ T6[low >> 8 & 0xFF] ^ T5[low >> 16 & 0xFF] ^ T4[low >> 24]
            ^ T3[high & 0xFF] ^ T2[high >> 8 & 0xFF] ^ T1[high >> 16 & 0xFF] ^ T0[high >> 24]
        )
    for byte in data[whole:]:
        crc = crc >> 8 ^ T0[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# The tables of the specification.


class Register:
    def __init__(self, row):
        number, self.name, shape, reset = row
        self.id = int(number, 16)
        self.count, self.width = (int(part) for part in shape.split(" x "))
        self.reset = int(reset, 0)

    def default(self):
        return [self.reset] * self.count


class Type:
    def __init__(self, name, number, scope):
        self.name, self.number = name, int(number, 16)
        self.per_vcpu, self.needed = scope == " per vCPU", scope != " or none"
        self.registers = {}


def specified_types():
    types = {}
    for line in SPECIFICATION.read_text(encoding="utf-8").splitlines():
        title = re.fullmatch(r"### (\w+) \((0x[0-9a-f]{4})\), one( per vCPU| or none)?", line)
        if title:
            current = Type(title[1], title[2], title[3])
            types[current.number] = current
        elif re.match(r"\| 0x[0-9a-f]{4} \|", line):
            register = Register([column.strip() for column in line.split("|")[1:5]])
            current.registers[register.id] = register
    return types


TYPES = specified_types()


# Header and records.


def read_header(data):
    need(data[:8] == MAGIC, "no checkpoint: the magic is missing")
    need(len(data) >= 48, "the header is cut short")
    major, minor, length = struct.unpack_from("<HHI", data, 8)
    incompatible, _compatible, total, reserved, crc = struct.unpack_from("<QQQII", data, 16)
    need(48 <= length <= 4096 and length % 8 == 0, f"a header of {length} bytes")
    need(len(data) >= length, "the header is cut short")
    need(crc32c(data[:44] + bytes(4) + data[48:length]) == crc, "the header's CRC is wrong")
    need(major == 1, f"version {major}.{minor}")
    need(incompatible == 0, f"unknown features {incompatible:#x}")
    need(reserved == 0, "reserved bytes of the header are not 0")
    need(total == len(data), f"the file has {len(data)} bytes instead of {total}")
    directory, reserved = struct.unpack_from("<QQ", data, 48) if minor >= 5 and length >= 64 else (0, 0)
    need(reserved == 0, "reserved bytes of the header are not 0")
    return f"{major}.{minor}", length, directory


def read_records(data, at):
    ended = False
    while at < len(data):
        need(not ended, "something follows the END record")
        need(len(data) - at >= 16, "a record's header is cut short")
        kind, instance, length, reserved, crc = struct.unpack_from("<HHIII", data, at)
        padded = (length + 7) // 8 * 8
        need(len(data) - at - 16 >= padded, f"record {kind:#x} is cut short")
        body = data[at + 16 : at + 16 + padded]
        covered = b"" if kind & 0x7FFF == RAM_PAGES else body
        need(crc32c(data[at : at + 12] + covered) == crc, f"record {kind:#x}: the CRC is wrong")
        need(reserved == 0, f"record {kind:#x}: reserved bytes are not 0")
        known = kind & 0x7FFF in (*TYPES, MEMORY, RAM_BLOCK, RAM_PAGES, RAM_DIRECTORY, PAD, END)
        need(not (known and any(body[length:])), f"record {kind:#x}: padding is not 0")
        yield at, kind, instance, body[:length]
        ended = kind == END
        at += 16 + padded
    need(ended, "the END record is missing")


def read_registers(kind, body):
    need(len(body) <= 65536, f"{kind.name} is too long")
    values = {register.name: register.default() for register in kind.registers.values()}
    seen, at, skipped = set(), 0, 0
    while at < len(body):
        need(len(body) - at >= 8, f"{kind.name}: a register is cut short")
        number, width, flags, first, count = struct.unpack_from("<HBBHH", body, at)
        length = width * count
        end = at + 8 + (length + 7) // 8 * 8
        need(end <= len(body), f"{kind.name}: register {number:#x} is cut short")
        value, padding = body[at + 8 : at + 8 + length], body[at + 8 + length : end]
        at = end
        where = f"{kind.name}: register {number:#x}"
        need(width in (1, 2, 4, 8, 16), f"{where}: width {width}")
        need(flags & ~1 == 0, f"{where}: reserved flags")
        need(not any(padding), f"{where}: padding is not 0")
        need(count >= 1, f"{where}: no elements")
        need(number not in seen, f"{where} is there twice")
        seen.add(number)
        register = kind.registers.get(number)
        if register is None:
            need(flags & 1 or not any(value), f"{where} is unknown")
            skipped += any(value)
            continue
        need(width == register.width, f"{where}: width {width}")
        need(first + count <= register.count, f"{where}: elements {first}+{count}")
        for index in range(count):
            element = value[index * width : (index + 1) * width]
            values[register.name][first + index] = int.from_bytes(element, "little")
    return values, skipped


# A checkpoint.


class Checkpoint:
    def __init__(self, data):
        self.bytes = len(data)
        self.skipped = self.skipped_registers = 0
        self.registers = {}
        self.pages = []
        self.stored = self.zero = 0
        self.covered = []
        self.words = 0
        self.pieces, self.block, self.directory = [], None, None
        self.version, at, self.directory_at = read_header(data)
        self.minor = int(self.version.split(".")[1])
        for at, kind, instance, body in read_records(data, at):
            self.record(at, kind, instance, body)
        self.check()

    def record(self, at, kind, instance, body):
        number = kind & 0x7FFF
        need(self.block is None or number == RAM_PAGES, "RAM_PAGES does not follow RAM_BLOCK")
        if number in (RAM_BLOCK, RAM_PAGES, RAM_DIRECTORY, PAD):
            need(instance == 0, f"record {number:#x} of instance {instance}")
        if number == RAM_BLOCK:
            self.ram_block(at, body)
        elif number == RAM_PAGES:
            self.ram_pages(body)
        elif number == RAM_DIRECTORY:
            need(self.directory is None, "RAM_DIRECTORY is there twice")
            need(at == self.directory_at, "the header says that RAM_DIRECTORY is elsewhere")
            self.directory = body
        elif number == PAD:
            need(len(body) <= PAGE and not any(body), "PAD is long, or not 0")
        elif number == MEMORY:
            need(instance == 0, f"MEMORY of instance {instance}")
            self.memory(body)
        elif number == END:
            need(instance == 0 and not body, "the END record is not empty")
        elif number in TYPES:
            need(not self.pieces and self.directory is None, f"record {number:#x} is behind the memory")
            known = TYPES[number]
            need(instance < (8 if known.per_vcpu else 1), f"{known.name} of instance {instance}")
            need((number, instance) not in self.registers, f"{known.name} is there twice")
            self.registers[number, instance], skipped = read_registers(known, body)
            self.skipped_registers += skipped
        else:
            need(kind & 0x8000, f"unknown record {kind:#x}")
            self.skipped += 1

    def ram_block(self, at, body):
        need(at % PAGE == 0, f"RAM_BLOCK at byte {at}")
        need(len(body) in (4064, 8160), f"RAM_BLOCK of {len(body)} bytes")
        address, count, reserved = struct.unpack_from("<QII", body)
        where = f"RAM_BLOCK at {address:#x}"
        need(reserved == 0, f"{where}: reserved bytes are not 0")
        need(1 <= count <= 512, f"{where}: {count} pages")
        need(not self.pieces or self.pieces[-1][0] < address, f"{where} is there twice, or out of order")
        kinds = body[16 : 16 + count]
        need(not any(body[16 + count : 528]), f"{where}: kinds behind the last page are not 0")
        need(all(kind <= 2 for kind in kinds), f"{where}: a kind is unknown")
        raw, words = kinds.count(1), kinds.count(2)
        words_at = (528 + 4 * raw + 7) // 8 * 8
        end = words_at + 8 * words
        need(len(body) == (4064 if end <= 4064 else 8160), f"{where}: {len(body)} bytes")
        need(not any(body[528 + 4 * raw : words_at]) and not any(body[end:]), f"{where}: padding is not 0")
        crcs = struct.unpack_from(f"<{raw}I", body, 528)
        words = struct.unpack_from(f"<{words}Q", body, words_at)
        need(0 not in words, f"{where}: a word is 0")
        self.block = address, kinds, iter(crcs), iter(words)
        self.pieces.append((address, count, at // PAGE, raw, kinds.count(2)))

    def ram_pages(self, body):
        need(self.block is not None, "RAM_PAGES without RAM_BLOCK")
        address, kinds, crcs, words = self.block
        self.block = None
        need(len(body) == kinds.count(1) * PAGE, f"RAM_PAGES of {address:#x}: {len(body)} bytes")
        at = 0
        for index, kind in enumerate(kinds):
            page_at = address + index * PAGE
            if kind == 1:
                page = body[at : at + PAGE]
                need(crc32c(page) == next(crcs), f"the page at {page_at:#x}: the CRC is wrong")
                self.pages.append((page_at, page))
                at += PAGE
            elif kind == 2:
                self.pages.append((page_at, next(words).to_bytes(8, "little") * (PAGE // 8)))
        self.stored += kinds.count(1)
        self.words += kinds.count(2)

    def check_blocks(self, memory):
        """The blocks are those of the memory, and the directory says what the file has."""
        need(not self.covered, "the memory is in MEMORY and in blocks")
        need(self.directory is not None, "RAM_DIRECTORY is missing")
        for address, count, *_ in self.pieces:
            base, end = next(((b, e) for b, e in memory if b <= address < e), (0, 0))
            first = max(base, address // BLOCK * BLOCK)
            last = min(end, address // BLOCK * BLOCK + BLOCK)
            need((address, address + count * PAGE) == (first, last), f"RAM_BLOCK at {address:#x} is no block")
        body = self.directory
        need(len(body) >= 8, "RAM_DIRECTORY is cut short")
        blocks, touched = struct.unpack_from("<II", body)
        need(touched <= 4096 and len(body) == 8 + 16 * blocks + 8 * touched, "RAM_DIRECTORY: its length")
        entries = list(struct.iter_unpack("<QIHH", body[8 : 8 + 16 * blocks]))
        pieces = [(address, *rest) for address, _, *rest in self.pieces]
        need(entries == pieces, "RAM_DIRECTORY does not say what the file has")
        need(all(raw + words for _, _, raw, words in entries), "RAM_DIRECTORY: a block without content")
        for (run,) in struct.iter_unpack("<Q", body[8 + 16 * blocks :]):
            first, end = run & ~0xFFF, (run & ~0xFFF) + ((run & 0xFFF) + 1) * PAGE
            need(any(b <= first and end <= e for b, e in memory), f"touched pages at {first:#x}")
        self.zero = sum(e - b for b, e in memory) // PAGE - self.stored - self.words

    def memory(self, body):
        need(len(body) >= 16, "MEMORY is cut short")
        address, count, kind = struct.unpack_from("<QII", body)
        need(address % PAGE == 0 and count >= 1, f"MEMORY at {address:#x}: {count} pages")
        need(kind in (0, 1) and (kind == 0 or count <= 256), f"MEMORY of kind {kind}, {count} pages")
        need(len(body) == 16 + kind * count * PAGE, f"MEMORY at {address:#x}: {len(body)} bytes")
        end = address + count * PAGE
        need(end < 1 << 64, f"MEMORY at {address:#x} is too long")
        before = self.covered[-1][1] if self.covered else 0
        need(address >= before, f"MEMORY at {address:#x} is there twice, or out of order")
        joins = self.covered and address == before
        self.covered.append((self.covered.pop()[0] if joins else address, end))
        if kind == 1:
            self.stored += count
            for index in range(count):
                page = body[16 + index * PAGE : 16 + (index + 1) * PAGE]
                self.pages.append((address + index * PAGE, page))
        else:
            self.zero += count

    def has(self, name):
        return any(TYPES[number].name == name for number, _ in self.registers)

    def of(self, name, instance=0):
        number = next(number for number, kind in TYPES.items() if kind.name == name)
        return self.registers[number, instance]

    def check(self):
        need((0x0001, 0) in self.registers, "GUEST is missing")
        guest = {name: values[0] for name, values in self.of("GUEST").items()}
        self.vcpus = guest["NR_VCPUS"]
        need(1 <= self.vcpus <= 8, f"{self.vcpus} vCPUs")
        expected = {
            (number, instance)
            for number, kind in TYPES.items()
            for instance in range(self.vcpus if kind.per_vcpu else 1)
        }
        spare = {(number, 0) for number, kind in TYPES.items() if not kind.needed}
        need(self.registers.keys() | spare == expected, "records are missing, or of vCPUs that are not there")
        self.base, self.size = guest["RAM_BASE"], guest["RAM_SIZE"]
        memory = sorted([(self.base, self.base + self.size), *self.shared()])
        if self.pieces or self.directory is not None:
            self.check_blocks(memory)
        else:
            need(self.covered == memory, "MEMORY is not the guest's memory")
        name = bytes(self.of("GUEST")["NAME"])
        self.name, _, rest = name.partition(b"\0")
        need(not any(rest), "the name is not padded with 0")
        self.name = self.name.decode("utf-8")
        if self.minor >= 3:
            need(re.fullmatch("[A-Za-z][A-Za-z0-9._-]*", self.name) and self.name != "all", "NAME is no name")
        self.check_gic()
        for index in range(self.vcpus):
            pstate = self.of("VCPU_CORE", index)["PSTATE"][0]
            mode = pstate & 0x1F
            need(mode in (0, 4, 5, 0x10), f"vCPU {index}: PSTATE.M is {mode:#x}")
            aarch32 = self.of("VCPU_IDENTITY", index)["ID_AA64PFR0_EL1"][0] & 0xF == 2
            need(mode != 0x10 or aarch32, f"vCPU {index}: PSTATE is AArch32, and the CPU has none")
            defined = 0xFFFF_FFFF if mode == 0x10 else 0xF3F0_3FDF
            need(pstate & ~defined == 0, f"vCPU {index}: PSTATE is {pstate:#x}")
        if self.has("GUEST_POWER"):
            need(self.of("GUEST_POWER")["STATE"][0] <= 2, "GUEST_POWER.STATE is beyond 2")

        if self.has("CHECKPOINT"):
            identity, parent = (self.of("CHECKPOINT")[name] for name in ("IDENTITY", "PARENT"))
            need(any(identity) and identity != parent, "CHECKPOINT: the identity is 0, or the parent's")
        if self.has("MACHINE"):
            self.check_machine()

    def check_machine(self):
        machine = self.of("MACHINE")
        kinds, rows = machine["KIND"], list(zip(*(machine[n] for n in ("BASE", "SIZE", "COUNT", "INTID"))))
        used = kinds.index(0) if 0 in kinds else len(kinds)
        need(used > 0, "MACHINE has no entry")
        need(not any(kinds[used:]) and not any(map(any, rows[used:])), "MACHINE has something behind its last entry")
        places = [(kind, row[0]) for kind, row in zip(kinds[:used], rows)]
        need(all(a < b for a, b in zip(places, places[1:])), "MACHINE: the entries do not ascend")
        for base, size, count, intid in rows[:used]:
            need(count > 0 and base + size * count < 1 << 64, "MACHINE: a window is none, or ends beyond 2^64")
            need(intid == 0 or intid + count <= 1020, "MACHINE: an INTID is beyond 1019")

    def shared(self):
        """The addresses of what the guest shares with others."""
        if not self.has("DEVICE_SHARED_MEMORY"):
            return []
        regions = self.of("DEVICE_SHARED_MEMORY")
        return [(base, base + size) for base, size in zip(regions["BASE"], regions["SIZE"]) if size]

    def check_gic(self):
        """Those of the invariants that the table of interrupts depends on."""
        gic = self.of("VGIC_DISTRIBUTOR")
        self.intids = gic["NR_IRQS"][0]
        need(self.intids in [*range(64, 1020, 32), 1020], f"{self.intids} INTIDs")
        need(gic["NR_CPUS"][0] == self.vcpus, "NR_CPUS is not NR_VCPUS")
        for index, holder in enumerate(gic["SPI_ACTIVE_CPU"]):
            active = bit(gic["SPI_ACTIVE"], index)
            need(holder < self.vcpus if active else holder == 0xFF, f"INTID {index + 32}: its holder")


# What `show --json` prints.


def bit(words, index):
    return bool(words[index // 32] >> index % 32 & 1)


def cpus(mask):
    return [index for index in range(8) if mask >> index & 1]


def interrupt(intid, vcpu, enabled, latch, active, level, edge, priority, group, targets):
    return {
        "intid": intid,
        "vcpu": vcpu,
        "enabled": enabled,
        "pending": latch or level and not edge,
        "active": active,
        "active_on": vcpu if active else None,
        "active_source": None,
        "level": level,
        "edge": edge,
        "priority": priority,
        "group": int(group),
        "targets": targets,
        "sources": [],
    }


def private_interrupts(gic, vcpu):
    for intid in range(32):
        flags = ("PRIV_ENABLE", "PRIV_LATCH", "PRIV_ACTIVE", "PRIV_LEVEL", "PRIV_EDGE")
        bits = [bit(gic[name], intid) for name in flags]
        group, priority = bit(gic["PRIV_GROUP"], intid), gic["PRIV_PRIO"][intid]
        row = interrupt(intid, vcpu, *bits, priority, group, [vcpu])
        if intid < 16:
            row["sources"] = cpus(gic["SGI_SRC"][intid])
            row["pending"] = bool(row["sources"])
            row["active_source"] = gic["SGI_ACTIVE_SRC"][intid] if row["active"] else None
        yield row


def shared_interrupts(gic, intids):
    for index in range(intids - 32):
        flags = ("SPI_ENABLE", "SPI_LATCH", "SPI_ACTIVE", "SPI_LEVEL", "SPI_EDGE")
        bits = [bit(gic[name], index) for name in flags]
        group, priority = bit(gic["SPI_GROUP"], index), gic["SPI_PRIO"][index]
        row = interrupt(index + 32, None, *bits, priority, group, cpus(gic["SPI_TARGETS"][index]))
        row["active_on"] = gic["SPI_ACTIVE_CPU"][index] if row["active"] else None
        yield row


def interrupts(checkpoint):
    for vcpu in range(checkpoint.vcpus):
        yield from private_interrupts(checkpoint.of("VGIC_CPU", vcpu), vcpu)
    yield from shared_interrupts(checkpoint.of("VGIC_DISTRIBUTOR"), checkpoint.intids)


def memory_hash(pages):
    digest = hashlib.sha256()
    for address, page in pages:
        digest.update(struct.pack("<Q", address) + page)
    return digest.hexdigest()


def record_order(checkpoint):
    """GUEST, CLOCK, its power, the checkpoint, the machine, distributor; each vCPU's; the devices."""
    first, per_vcpu = ("GUEST", "CLOCK", "GUEST_POWER", "CHECKPOINT", "MACHINE", "VGIC_DISTRIBUTOR"), [
        "VCPU_IDENTITY", "VCPU_POWER", "VCPU_CORE", "VCPU_SYSTEM", "VCPU_FP", "VCPU_DEBUG", "VGIC_CPU",
    ]
    yield from ((name, 0) for name in first if checkpoint.has(name))
    yield from ((name, vcpu) for vcpu in range(checkpoint.vcpus) for name in per_vcpu)
    devices = [kind.name for kind in TYPES.values() if kind.name.startswith("DEVICE_")]
    yield from ((name, 0) for name in devices if checkpoint.has(name))


def digits(register, value):
    return f"{value:#0{2 + 2 * register.width}x}"


def record(checkpoint, name, instance):
    kind = next(kind for kind in TYPES.values() if kind.name == name)
    values = checkpoint.of(name, instance)
    registers = {}
    for register in kind.registers.values():
        elements = [digits(register, value) for value in values[register.name]]
        registers[register.name] = elements if register.count > 1 else elements[0]
    return {"type": name, "instance": instance, "registers": registers}


def show(checkpoint):
    return {
        "format": checkpoint.version,
        "bytes": checkpoint.bytes,
        "skipped": checkpoint.skipped,
        "skipped_registers": checkpoint.skipped_registers,
        "guest": checkpoint.name,
        "memory": {
            "base": f"{checkpoint.base:#x}",
            "size": f"{checkpoint.size:#x}",
            "pages_stored": checkpoint.stored,
            "pages_word": checkpoint.words,
            "pages_zero": checkpoint.zero,
            "sha256": memory_hash(checkpoint.pages),
        },
        "records": [record(checkpoint, *which) for which in record_order(checkpoint)],
        "interrupts": list(interrupts(checkpoint)),
    }


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        checkpoint = Checkpoint(pathlib.Path(sys.argv[1]).read_bytes())
    except (Refused, UnicodeDecodeError, OSError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    print(json.dumps(show(checkpoint), indent=2, sort_keys=True, ensure_ascii=False))


if __name__ == "__main__":
    main()
