#!/bin/sh
# QEMU's GICV offers list registers of equal priority by their own numbers, not by the INTIDs that are in them.
#
# Why it matters: QEMU's distributor, like a GIC-400's, takes the lowest INTID of the best priority first. A hypervisor that fills list
# registers in the order in which interrupts came has guests that take them in another order than on the machine that they think they
# are on. The GIC's specification leaves the choice to the implementation; a program that compares transcripts meets it.
#
# Needs qemu-system-aarch64 on the PATH (seen with 10.0.2). Debian's assembler is unpacked into a temporary folder.
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

cat > order.s <<'ASM'
    .global _start
_start:                             // at EL2: QEMU's virt with virtualization=on
    ldr     x18, =0x08000000        // GICD
    ldr     x17, =0x08010000        // GICC
    ldr     x19, =0x08030000        // GICH
    ldr     x20, =0x08040000        // GICV
    ldr     x21, =0x09000000        // UARTDR
    // The virtual interface: 45 in list register 0, 37 in 1, both pending, group 0, priority 0xa0.
    mov     w0, #0xff
    str     w0, [x20, #0x04]        // GICV_PMR
    mov     w0, #1
    str     w0, [x20]               // GICV_CTLR
    str     w0, [x19]               // GICH_HCR.En
    ldr     w0, =(1 << 28 | 0x14 << 23 | 45)
    str     w0, [x19, #0x100]       // GICH_LR0
    ldr     w0, =(1 << 28 | 0x14 << 23 | 37)
    str     w0, [x19, #0x104]       // GICH_LR1
    ldr     w0, [x20, #0x0c]        // GICV_IAR
    bl      print
    // The same two as physical interrupts.
    mov     w0, #0xff
    str     w0, [x17, #0x04]        // GICC_PMR
    mov     w0, #0xa0
    strb    w0, [x18, #(0x400 + 45)]
    strb    w0, [x18, #(0x400 + 37)]
    mov     w0, #1
    strb    w0, [x18, #(0x800 + 45)]
    strb    w0, [x18, #(0x800 + 37)]
    ldr     w0, =(1 << 13 | 1 << 5)
    str     w0, [x18, #0x104]       // GICD_ISENABLER1
    ldr     w1, =(1 << 13)
    str     w1, [x18, #0x204]       // GICD_ISPENDR1: 45 first
    str     w0, [x18, #0x204]
    mov     w0, #1
    str     w0, [x18]               // GICD_CTLR
    str     w0, [x17]               // GICC_CTLR
    ldr     w0, [x17, #0x0c]        // GICC_IAR
    bl      print
    ldr     w0, =0x84000008         // PSCI SYSTEM_OFF
    smc     #0
    b       .
print:                              // two digits and a blank
    and     w0, w0, #0x3ff
    mov     w1, #10
    udiv    w2, w0, w1
    msub    w3, w2, w1, w0
    add     w2, w2, #'0'
    add     w3, w3, #'0'
    str     w2, [x21]
    str     w3, [x21]
    mov     w2, #' '
    str     w2, [x21]
    ret
ASM
aarch64-linux-gnu-as -o order.o order.s
aarch64-linux-gnu-ld -Ttext=0x40080000 -o order.elf order.o
FOUND=$(timeout 60 qemu-system-aarch64 -M virt,virtualization=on,gic-version=2 -cpu cortex-a72 -nic none \
    -display none -monitor none -serial stdio -kernel order.elf | tr -d '\r\n')

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 37 37: of two pending interrupts of one priority, both interfaces offer the lower INTID"
echo "behaviour:   the physical interface offers the lower INTID, the virtual one what is in the first list register"
echo "seen:        $FOUND(GICV_IAR; GICC_IAR)"
[ "$FOUND" = "45 37 " ] || { echo "changed: it was 45 37"; exit 1; }
