#!/bin/sh
# A transfer of 512 blocks by one ADMA2 command reaches the host's disk as 512 requests: QEMU's SD card writes each block of
# 512 bytes alone, and waits for it, whatever the SD host has gathered.
#
# Why it matters: on real hardware multi-block commands and DMA are what makes a card fast. Under QEMU they spare accesses to
# registers, and nothing of the time that the host takes for each request; a driver that is measured there looks as if its DMA
# did not work.
#
# Source: the SD Physical Layer Simplified Specification, 4.3.4, and the SD Host Controller Simplified Specification, 1.13: a
# multiple block write is one command, and one DMA.
#
# Needs qemu-system-aarch64 (seen with 10.0.2) and python3 on the PATH.
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
truncate -s 64M card.img log.img
cat > drive.py <<'PYTHON'
"""Drives QEMU's sdhci-pci by qtest, with the CPU stopped: the card is set up as 4.2 of its specification has it."""
import atexit, signal, socket, struct, subprocess, sys, time

qemu = subprocess.Popen(
    ["qemu-system-aarch64", "-M", "virt,highmem=off", "-m", "64M", "-nic", "none", "-display", "none", "-monitor", "none",
     "-serial", "none", "-S", "-qtest", "unix:qtest,server=on,wait=off", "-qtest-log", "none",
     "-drive", "if=none,id=card,driver=blklogwrites,file.driver=file,file.filename=card.img,"
     "log.driver=file,log.filename=log.img,log-super-update-interval=1",
     "-device", "sdhci-pci,addr=1", "-device", "sd-card,drive=card"])
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


def requests():
    """Returns how many requests blklogwrites has noted in its superblock."""
    with open("log.img", "rb") as log:
        return struct.unpack_from("<3Q", log.read(24))[2]


FUNCTION = 0x3F000000 + (1 << 15)  # device 1 in the ECAM
BASE = 0x10000000  # the window of PCI's memory
TABLE, BUFFER, PIECE = 0x40100000, 0x40200000, 65536  # RAM begins at 0x40000000


def write(offset, value):
    ask(f"writel {BASE + offset:#x} {value:#x}")


def read(offset):
    return ask(f"readl {BASE + offset:#x}")


def command(index, argument, flags, mode=0):
    write(0x30, 0xFFFFFFFF)  # Interrupt Status
    write(0x08, argument)
    write(0x0C, index << 24 | flags << 16 | mode)
    return read(0x10)


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
for number in range(4):
    end = 2 if number == 3 else 0
    ask(f"writeq {TABLE + 8 * number:#x} {(BUFFER + PIECE * number) << 32 | 0x21 | end:#x}")
before = requests()
write(0x28, 0xF10)  # ADMA2
write(0x58, TABLE)
write(0x04, 512 << 16 | 512)
command(25, 0, 0x3A, 0x27)  # WRITE_MULTIPLE_BLOCK, DMA, Auto CMD12
assert read(0x30) & 0xFFFF0002 == 2, "the transfer is not complete"
print(requests() - before)
PYTHON
FOUND=$(timeout 120 python3 drive.py)

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: a few requests: one for each of the 4 descriptors of 64 KiB, or one for all"
echo "behaviour:   one for each block of 512 bytes"
echo "seen:        $FOUND requests for 512 blocks, written by one command"
[ "$FOUND" = 512 ] || { echo "changed: there were 512"; exit 1; }
