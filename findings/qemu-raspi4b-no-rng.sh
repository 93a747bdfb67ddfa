#!/bin/sh
# QEMU's raspi4b takes the node of the random number generator out of the device tree that it is given, without a word.
#
# Expected: a machine passes the device tree of `-dtb` on, but for what a boot loader adds (memory, the initrd, the command line). A node of
# which it has no model stays, and its driver finds registers that read as zero.
# Seen: `brcm,bcm2711-rng200` is gone from what the machine finds (hw/arm/raspi4b.c, raspi4_modify_dtb), as the nodes of PCIe, the
# thermal sensor and Ethernet are; a node beside it stays.
#
# Why it matters: a driver that is found by the device tree is never tried there, and a test on QEMU that passes says nothing of it.
#
# Needs qemu-system-aarch64 (seen with 10.0.2), python3 with venv, and pip.
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet fdt==0.3.3
cat > "$WORK/board.dts" <<'DTS'
/dts-v1/;
/ {
    compatible = "raspberrypi,4-model-b", "brcm,bcm2711";
    #address-cells = <2>;
    #size-cells = <1>;
    soc {
        compatible = "simple-bus";
        #address-cells = <1>;
        #size-cells = <1>;
        rng@7e104000 {
            compatible = "brcm,bcm2711-rng200";
            reg = <0x7e104000 0x28>;
        };
        serial@7e201000 {
            compatible = "arm,pl011", "arm,primecell";
            reg = <0x7e201000 0x200>;
        };
    };
};
DTS
"$WORK/venv/bin/python" - "$WORK/board.dts" "$WORK/board.dtb" <<'PYTHON'
import sys, fdt
open(sys.argv[2], "wb").write(fdt.parse_dts(open(sys.argv[1]).read()).to_dtb(version=17))
PYTHON
qemu-system-aarch64 --version | head -1
timeout 60 qemu-system-aarch64 -M "raspi4b,dumpdtb=$WORK/found.dtb" -dtb "$WORK/board.dtb" -display none > "$WORK/said" 2>&1 || true
count() { grep -a -c "$1" "$2" || true; }
for name in brcm,bcm2711-rng200 arm,pl011; do
    echo "$name: given $(count $name "$WORK/board.dtb"), found $(count $name "$WORK/found.dtb")"
done
[ "$(count brcm,bcm2711-rng200 "$WORK/board.dtb") $(count brcm,bcm2711-rng200 "$WORK/found.dtb") $(count arm,pl011 "$WORK/found.dtb")" = "1 0 1" ]
