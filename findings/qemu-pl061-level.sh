#!/bin/sh
# QEMU's PL061 keeps the interrupt of a level-sensitive line after the level has gone, until it is cleared in GPIOIC.
#
# By the manual (ARM DDI 0190B) GPIOIC clears the edge detection logic alone, and a level interrupts for as long as it is there.
# So a driver that quiets the source of a level-sensitive line is done. In QEMU it is interrupted once more.
#
# Why it matters: a model that is compared with QEMU's, bit by bit, is wrong where it agrees.
#
# Needs qemu-system-aarch64 (seen with 10.0.2) and python3 on the PATH. The registers are accessed by QEMU's own test protocol; no guest runs.
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
cat > drive.py <<'PYTHON'
"""Accesses the registers of virt's PL061 by qtest, with the CPU stopped, and prints GPIORIS each time that it is read."""
import atexit, signal, socket, subprocess, sys, time

qemu = subprocess.Popen(
    ["qemu-system-aarch64", "-M", "virt", "-S", "-nic", "none", "-display", "none", "-monitor", "none", "-serial", "none",
     "-qtest", "unix:qtest,server=on,wait=off", "-qtest-log", "none"])
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


BASE = 0x9030000
GPIOIS, GPIOIEV, GPIORIS, GPIOIC = BASE + 0x404, BASE + 0x40C, BASE + 0x414, BASE + 0x41C


def write(register, value):
    ask(f"writel {register:#x} {value:#x}")


def seen():
    print(f"{ask(f'readl {GPIORIS:#x}'):x}", end="")


write(GPIOIEV, 0xFF)  # the high level
write(GPIOIS, 0x08)  # line 3 is level-sensitive, and low, as nobody presses virt's power key
seen()
write(GPIOIEV, 0xF7)  # the low level
seen()
write(GPIOIEV, 0xFF)  # the high level again
seen()
write(GPIOIC, 0x08)
seen()
PYTHON
FOUND=$(timeout 120 python3 drive.py)

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 0800: GPIORIS has bit 3 while line 3 has the level that GPIOIEV asks for, and not after"
echo "behaviour:   GPIORIS keeps bit 3 until it is cleared in GPIOIC"
echo "seen:        $FOUND (GPIORIS: level not reached, reached, not reached any more, after GPIOIC)"
[ "$FOUND" = 0880 ] || { echo "changed: it was 0880"; exit 1; }
