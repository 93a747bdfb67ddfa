#!/bin/sh
# QEMU's SD host controller does nothing when one write asks it to reset both its command and its data part; each of the two, asked for alone, is reset. All the same
# both bits read back as 0 at once, as after a reset that is done.
#
# Why it matters: drivers do this after a failed transfer (NetBSD's and OpenBSD's sdhc(4) do, with both bits). They are told that the controller is ready, and find the
# data lines in use for ever. On a board they recover.
#
# Source: the SD Host Controller Simplified Specification, 2.2.16: Software Reset has a bit for each part, which is 1 until that part is reset. hw/sd/sdhci.c of QEMU
# compares the whole byte with each of its values that has one bit.
#
# Needs qemu-system-aarch64 (seen with 10.0.2) and python3 on the PATH. The registers are accessed by QEMU's own test protocol; no guest runs.
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
truncate -s 64M card.img
cat > drive.py <<'PYTHON'
"""Drives QEMU's sdhci-pci: a read of a block is begun and left, and the parts of the controller are reset. Prints Present State each time, and Software Reset behind it."""
import atexit, signal, socket, subprocess, sys, time

qemu = subprocess.Popen(
    ["qemu-system-aarch64", "-M", "virt,highmem=off", "-m", "64M", "-nic", "none", "-display", "none", "-monitor", "none",
     "-serial", "none", "-S", "-qtest", "unix:qtest,server=on,wait=off", "-qtest-log", "none",
     "-drive", "if=none,id=card,format=raw,file=card.img", "-device", "sdhci-pci,addr=1", "-device", "sd-card,drive=card"])
atexit.register(qemu.kill)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # timeout's


def connect(path):
    for _ in range(600):
        try:
            line = socket.socket(socket.AF_UNIX)
            line.connect(path)
            return line.makefile("rw")
        except OSError:
            time.sleep(0.1)
    raise SystemExit("QEMU did not start")


qtest = connect("qtest")


def ask(words):
    qtest.write(words + "\n")
    qtest.flush()
    answer = qtest.readline().split()
    assert answer[0] == "OK", answer
    return int(answer[1], 16) if len(answer) > 1 else 0


FUNCTION = 0x3F000000 + (1 << 15)  # device 1 in the ECAM
BASE = 0x10000000  # the window of PCI's memory


def write(offset, value):
    ask(f"writel {BASE + offset:#x} {value:#x}")


def read(offset):
    return ask(f"readl {BASE + offset:#x}")


def command(index, argument, flags, mode=0):
    write(0x30, 0xFFFFFFFF)  # Interrupt Status
    write(0x08, argument)
    write(0x0C, index << 24 | flags << 16 | mode)
    return read(0x10)


def reset(parts):
    """Writes Software Reset, and prints what becomes of it."""
    ask(f"writeb {BASE + 0x2F:#x} {parts}")
    print(f"{read(0x24) & 0xFFF:03x}/{ask(f'readb {BASE + 0x2F:#x}')}", end=" ")


ask(f"writel {FUNCTION + 0x10:#x} {BASE:#x}")  # BAR 0
ask(f"writel {FUNCTION + 4:#x} 6")  # memory, bus master
write(0x2C, 1)  # internal clock
write(0x2C, 0xE0005)  # and the card's
write(0x28, 0xF00)  # 3.3 V
write(0x34, 0x03FF00FF)  # Interrupt Status Enable
command(0, 0, 0)
command(8, 0x1AA, 0x1A)
while not command(41, 0x40FF8000, 2) >> 31:
    command(55, 0, 0x1A)
command(2, 0, 9)
address = command(3, 0, 0x1A) & 0xFFFF0000
command(7, address, 0x1B)
command(16, 512, 0x1A)
write(0x04, 1 << 16 | 512)
command(17, 0, 0x3A, 0x10)  # READ_SINGLE_BLOCK, without DMA
print(f"{read(0x24) & 0xFFF:03x}", end=" ")
reset(6)  # command and data
reset(2)  # command
reset(4)  # data
PYTHON
FOUND=$(timeout 120 python3 drive.py)

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: a02 000/0 000/0 000/0: when both bits read as 0, no data is waiting, and the data line is free"
echo "behaviour:   both bits read as 0, and nothing was reset until each was written alone"
echo "seen:        $FOUND(Present State while data waits to be read; Present State/Software Reset after both at once; after the command's; after the data's)"
WANTED="a02 a02/0 a02/0 000/0 "
[ "$FOUND" = "$WANTED" ] || { echo "changed: it was \"$WANTED\""; exit 1; }
