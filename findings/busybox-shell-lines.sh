#!/bin/sh
# busybox's interactive shell runs its own applets with the standard output of a terminal, also where that is redirected: `yes | head -c N > FILE` typed at its prompt
# writes each line alone, and the same in `sh -c` writes 4096 bytes at a time.
#
# Why it matters: initramfs images and small boards have this shell. A disk, or a hypervisor's virtio device, that is filled or measured by such a command gets tens of
# thousands of writes of a few bytes, and the kernel reads each block before a part of it is written; the same script, not typed, is many times as fast.
#
# Source: the C standard, 7.21.3: a stream is fully buffered only if it does not refer to an interactive device; busybox's shell forks its applets from a process whose
# stream was set up for the terminal already (shell/ash.c and CONFIG_FEATURE_SH_STANDALONE; Debian's busybox-static has it).
#
# Needs apt-get, dpkg and python3 of a Debian.
set -eu

PACKAGE="busybox-static=1:1.35.0-4+deb12u1+b1"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
apt-get download -q "$PACKAGE" >apt.log 2>&1 || { cat apt.log; exit 1; }
dpkg -x ./*.deb root
cat > type.py <<'PYTHON'
"""Types commands at a busybox shell on a pseudo-terminal. Prints the writes that each has made, by the kernel's count for the shell and its children."""
import os, pty, sys

BUSYBOX = "root/bin/busybox"
pid, terminal = pty.fork()
if pid == 0:
    os.execv(BUSYBOX, ["busybox", "sh"])

def writes():
    with open(f"/proc/{pid}/io") as file:
        return int(next(line for line in file if line.startswith("syscw")).split()[1])

def run(command):
    before, seen = writes(), b""
    os.write(terminal, (command + "; echo en''d\n").encode())
    while b"end" not in seen:
        seen += os.read(terminal, 4096)
    return writes() - before

run(":")
FILL = "yes 2> /dev/null | head -c 200000 > out"
print(run(FILL), run(f"{BUSYBOX} sh -c '{FILL}'"))
os.write(terminal, b"exit\n")
PYTHON
FOUND=$(timeout 120 python3 type.py)

echo "version:     $PACKAGE"
echo "expectation: as many writes whether the command is typed or given to sh -c"
echo "behaviour:   more than 50000 if it is typed, less than 2000 by sh -c"
echo "seen:        $FOUND (writes, typed; by sh -c; of 200000 bytes, by yes and head)"
set -- $FOUND
[ "$1" -gt 50000 ] && [ "$2" -lt 2000 ] || { echo "changed: it was more than 50000, and less than 2000"; exit 1; }
