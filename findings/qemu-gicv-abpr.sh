#!/bin/sh
# QEMU's virtual GICv2 clamps one register to two different minima: GICV_ABPR keeps values that GICH_VMCR, which holds the
# same field, raises when what was read from it is written back.
#
# Why it matters: a hypervisor that saves GICH_VMCR and checks it against the least binary point that GICH can hold (3, with
# five bits of priority) finds values there that it could never have loaded.
#
# Needs qemu-system-aarch64 on the PATH. Debian's assembler is unpacked into a temporary folder.
set -eu

PACKAGES="binutils-aarch64-linux-gnu=2.40-2 binutils-common=2.40-2 libbinutils=2.40-2"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
apt-get download -q $PACKAGES >apt.log 2>&1 || { cat apt.log; exit 1; }
for package in *.deb; do dpkg -x "$package" root; done
LD_LIBRARY_PATH=$(dirname "$(find "$WORK/root" -name 'libopcodes*.so' | head -n 1)")
export LD_LIBRARY_PATH
PATH=$WORK/root/usr/bin:$PATH

cat > abpr.s <<'ASM'
    .global _start
_start:                             // at EL2: QEMU's virt with virtualization=on
    ldr     x19, =0x08030000        // GICH
    ldr     x20, =0x08040000        // GICV
    ldr     x21, =0x09000000        // UARTDR
    str     wzr, [x20, #0x1c]       // GICV_ABPR = 0
    ldr     w22, [x20, #0x1c]       // GICV_ABPR
    bl      print
    ldr     w23, [x19, #0x08]       // GICH_VMCR
    ubfx    w22, w23, #18, #3       // VMABP
    bl      print
    str     w23, [x19, #0x08]       // the value that was just read
    ldr     w23, [x19, #0x08]
    ubfx    w22, w23, #18, #3
    bl      print
    mov     w22, #('\n' - '0')
    bl      print
    ldr     w0, =0x84000008         // PSCI SYSTEM_OFF
    smc     #0
    b       .
print:
    add     w22, w22, #'0'
    str     w22, [x21]
    ret
ASM
aarch64-linux-gnu-as -o abpr.o abpr.s
aarch64-linux-gnu-ld -Ttext=0x40080000 -o abpr.elf abpr.o
FOUND=$(timeout 60 qemu-system-aarch64 -M virt,virtualization=on,gic-version=2 -cpu cortex-a72 -nic none \
    -display none -monitor none -serial stdio -kernel abpr.elf | tr -d '\r\n')

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 333: GICV_ABPR and GICH_VMCR.VMABP are one field, whose least value with five bits of priority is 3"
echo "behaviour:   GICV_ABPR = 0 is kept as 1, is read as 1 from GICH_VMCR too, and is 3 once that value is written back"
echo "seen:        $FOUND (GICV_ABPR after 0; VMABP; VMABP after GICH_VMCR was written with what was read)"
[ "$FOUND" = 113 ] || { echo "changed: it was 113"; exit 1; }
