#!/bin/sh
# QEMU's GICv2 lets every CPU that GICD_ITARGETSR names take one and the same shared interrupt: each of them reads its INTID in GICC_IAR.
#
# Why it matters: who gives an interrupt to several CPUs so that whoever is free takes it has two handlers of one device run at once, and one event counted
# twice. On a GIC one CPU gets the INTID, and the others 1023. Linux names one CPU for each interrupt and so never meets it.
#
# Source: the GIC architecture specification (IHI 0048B.b), 1.4.2 and 3.1.1: peripheral interrupts are handled by the 1-N model. hw/intc/arm_gic.c of QEMU has
# both models, and sets the 1-N one for the older 11MPCore alone.
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

cat > targets.s <<'ASM'
    .global _start
_start:                             // at EL1, no MMU, interrupts masked
    ldr     x19, =0x08000000        // GICD
    ldr     x20, =0x08010000        // GICC, of the CPU that accesses it
    ldr     x21, =0x09000000        // UARTDR
    ldr     x22, =0x40200000        // the two words: asked, answered
    ldr     w0, =0xc4000003         // PSCI CPU_ON
    mov     x1, #1
    adr     x2, second
    mov     x3, #0
    hvc     #0
    ldr     w0, =0x0002aaaa
    str     w0, [x19, #0xc08]       // GICD_ICFGR2: 40 is edge-triggered
    mov     w0, #1 << 8
    str     w0, [x19, #0x104]       // GICD_ISENABLER1: 40
    mov     w0, #1
    str     w0, [x19]               // GICD_CTLR
    mov     w23, #1
    bl      set_up
    bl      ask                     // the second CPU is up
    mov     w0, #1                  // one target
    bl      try
    mov     w0, #3                  // two
    bl      try
    ldr     w0, =0x84000008         // PSCI SYSTEM_OFF
    hvc     #0
    b       .
try:                                // makes 40 pending for the targets w0, and prints both CPUs' GICC_IAR
    mov     x28, x30
    strb    w0, [x19, #0x828]       // GICD_ITARGETSR
    mov     w0, #1 << 8
    str     w0, [x19, #0x204]       // GICD_ISPENDR1: 40
    ldr     w24, [x20, #0x0c]       // GICC_IAR
    bl      ask
    mov     w25, w0
    str     w24, [x20, #0x10]       // GICC_EOIR
    mov     w0, w24
    bl      print
    mov     w0, w25
    bl      print
    ret     x28
set_up:                             // GICC: all priorities, on
    mov     w0, #0xff
    str     w0, [x20, #0x04]
    mov     w0, #1
    str     w0, [x20]
    ret
ask:                                // asks the second CPU, and returns what it read
    add     w23, w23, #1
    str     w23, [x22]
1:  yield
    dmb     ish
    ldr     w0, [x22, #4]
    cmp     w0, w23
    b.ne    1b
    dmb     ish
    ldr     w0, [x22, #8]
    ret
second:                             // reads GICC_IAR each time that it is asked, and ends what it got
    ldr     x20, =0x08010000
    ldr     x22, =0x40200000
    bl      set_up
    mov     w1, #0
1:  yield
    ldr     w0, [x22]
    cmp     w0, w1
    b.eq    1b
    mov     w1, w0
    dmb     ish
    ldr     w2, [x20, #0x0c]        // GICC_IAR
    and     w3, w2, #0x3ff
    cmp     w3, #1020
    b.hs    2f
    str     w2, [x20, #0x10]        // GICC_EOIR
2:  str     w2, [x22, #8]
    dmb     ish
    str     w1, [x22, #4]
    b       1b
print:                              // w0 in decimal, and a blank
    mov     w1, #1000
    mov     w3, #10
1:  udiv    w2, w0, w1
    msub    w0, w2, w1, w0
    add     w2, w2, #'0'
    str     w2, [x21]
    udiv    w1, w1, w3
    cbnz    w1, 1b
    mov     w2, #' '
    str     w2, [x21]
    ret
ASM
aarch64-linux-gnu-as -o targets.o targets.s
aarch64-linux-gnu-ld -Ttext=0x40080000 -o targets.elf targets.o
FOUND=$(timeout 60 qemu-system-aarch64 -M virt,gic-version=2 -cpu cortex-a57 -smp 2 -nic none \
    -display none -monitor none -serial stdio -kernel targets.elf | tr -d '\r\n')

echo "version:     $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 0040 1023 0040 1023: whoever takes interrupt 40 first has it, and the other CPU finds nothing"
echo "behaviour:   with two targets, the second CPU takes it, too"
echo "seen:        $FOUND(GICC_IAR of the first and the second CPU with the first as target; with both)"
[ "$FOUND" = "0040 1023 0040 0040 " ] || { echo "changed: it was \"0040 1023 0040 0040 \""; exit 1; }
