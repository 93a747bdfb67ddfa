#!/bin/sh
# QEMU's `stop` and `cont` notify its virtio disk: a request that a driver has put into the queue, and of which it has not told the device, waits for ever, and
# is carried out, with its interrupt, as soon as somebody stops the machine and lets it go on.
#
# Why it matters: a guest that hangs because a notification was lost, or never sent, is all right again after a look at it: that a debugger attaches and detaches
# is such a stop, too. And a driver that fails everywhere else passes tests that stop the machine now and then.
#
# Source: virtio 1.2, 4.2.3.3: the driver tells the device of new buffers by a write to QueueNotify. QEMU receives that by an eventfd, which it sets up anew, and sets,
# whenever the machine starts (virtio_blk_start_ioeventfd in hw/block/virtio-blk.c); `-global virtio-mmio.ioeventfd=off` leaves both out.
#
# Needs qemu-system-aarch64 (seen with 10.0.2) and python3 on the PATH. The CPU waits in WFI; the registers are accessed by QEMU's own test protocol.
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
truncate -s 1M disk.img
cat > drive.py <<'PYTHON'
"""Has virt's virtio-mmio disk read two sectors, of which the second one's notification is left out, and prints the used ring's index."""
import atexit, json, signal, socket, struct, subprocess, sys, time

with open("wait.bin", "wb") as code:
    code.write(struct.pack("<2I", 0xD503207F, 0x17FFFFFF))  # wfi; b .-4
qemu = subprocess.Popen(
    ["qemu-system-aarch64", "-M", "virt", "-m", "64M", "-nic", "none", "-display", "none", "-monitor", "none", "-serial", "none",
     "-qtest", "unix:qtest,server=on,wait=off", "-qtest-log", "none", "-qmp", "unix:qmp,server=on,wait=off",
     "-device", "loader,file=wait.bin,addr=0x40200000,cpu-num=0", "-global", "virtio-mmio.force-legacy=false",
     "-global", f"virtio-mmio.ioeventfd={sys.argv[1]}",
     "-drive", "if=none,id=disk,format=raw,file=disk.img", "-device", "virtio-blk-device,drive=disk,bus=virtio-mmio-bus.0"])
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


qtest, qmp = connect("qtest"), connect("qmp")


def ask(words):
    qtest.write(words + "\n")
    qtest.flush()
    answer = qtest.readline().split()
    assert answer[0] == "OK", answer
    return int(answer[1], 16) if len(answer) > 1 else 0


def tell(command):
    qmp.write(json.dumps({"execute": command}) + "\n")
    qmp.flush()
    while "return" not in (answer := json.loads(qmp.readline())):
        assert "error" not in answer, answer


BASE = 0xA000000  # slot 0
TABLE, DRIVER, DEVICE, HEADER, SECTOR, STATUS = range(0x40300000, 0x40306000, 0x1000)


def write(register, value):
    ask(f"writel {BASE + register:#x} {value:#x}")


def publish(number):
    """Adds the chain that begins with descriptor 0 to the available ring."""
    ask(f"writew {DRIVER + 4 + 2 * number:#x} 0")
    ask(f"writew {DRIVER + 2:#x} {number + 1}")


def seen(most):
    """Prints the used ring's index, and InterruptStatus, when there are `most` used buffers, or after 3 s; then acknowledges the interrupt."""
    for _ in range(30):
        used = ask(f"readw {DEVICE + 2:#x}")
        if used == most:
            break
        time.sleep(0.1)
    status = ask(f"readl {BASE + 0x60:#x}")
    print(f"{used}/{status}", end=" ", flush=True)
    write(0x64, status)  # InterruptACK


for status in (0, 1, 3):
    write(0x70, status)  # Status: reset, ACKNOWLEDGE, DRIVER
for half in (1, 0):
    write(0x24, half)  # DriverFeaturesSel
    write(0x20, half)  # DriverFeatures: VIRTIO_F_VERSION_1
write(0x70, 0xB)  # FEATURES_OK
write(0x30, 0)  # QueueSel
write(0x38, 8)  # QueueNum
for register, address in ((0x80, TABLE), (0x90, DRIVER), (0xA0, DEVICE)):
    write(register, address)
    write(register + 4, 0)
write(0x44, 1)  # QueueReady
write(0x70, 0xF)  # DRIVER_OK
# A header of zeros reads sector 0.
for number, (address, size, flags) in enumerate(((HEADER, 16, 1), (SECTOR, 512, 3), (STATUS, 1, 2))):
    ask(f"writeq {TABLE + 16 * number:#x} {address:#x}")
    ask(f"writeq {TABLE + 16 * number + 8:#x} {size | flags << 32 | (number + 1) << 48:#x}")
publish(0)
write(0x50, 0)  # QueueNotify
seen(1)
publish(1)
seen(2)
tell("qmp_capabilities")
tell("stop")
seen(2)
tell("cont")
seen(2)
PYTHON
BY_EVENTFD=$(timeout 120 python3 drive.py on)
rm qtest qmp
FOUND=$BY_EVENTFD$(timeout 120 python3 drive.py off)

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 1/1 1/0 1/0 1/0 with either: the second request waits for its notification, whatever happens to the machine meanwhile"
echo "behaviour:   with ioeventfd, the default, it is carried out when the machine goes on after a stop"
echo "seen:        $FOUND(used buffers/InterruptStatus: a request with a notification; one without; after stop; after cont; the same with ioeventfd=off)"
WANTED="1/1 1/0 1/0 2/1 1/1 1/0 1/0 1/0 "
[ "$FOUND" = "$WANTED" ] || { echo "changed: it was \"$WANTED\""; exit 1; }
