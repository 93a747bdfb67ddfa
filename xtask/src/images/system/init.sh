# Goes on as init in a plain machine of QEMU's, once its drivers are loaded. Slot 0 has the disk that becomes Debian, slot 1 the packages.
# Returns the name of the disk in a slot: Linux counts disks in the order in which it finds them.
disk_in() {
    ls -d /sys/devices/platform/$1.virtio_mmio/virtio*/block/* | sed 's,.*/,/dev/,'
}
mkdir /root /packages
mount -t ext4 -o noatime $(disk_in a000000) /root && mount -t ext4 -o ro $(disk_in a000200) /packages || poweroff -f

# What dpkg needs to run at all. Debian's packages have /bin, /sbin and /lib as links.
cd /root
for folder in bin sbin lib; do
    mkdir -p usr/$folder
    ln -s usr/$folder $folder
done
for package in $(cat /packages/essential); do
    echo "Extracting $package"
    dpkg-deb -x /packages/$package . || echo "failed: $package is not extracted"
done

mkdir packages
mount -o bind /packages packages
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs dev dev
mkdir -p dev/pts
mount -t devpts devpts dev/pts
mount -t tmpfs run run
chroot . /bin/sh /packages/install
for mounted in run dev/pts dev sys proc packages; do
    umount $mounted
done
rmdir packages
cd /
# The host's file gets a hole where nothing is left.
fstrim /root
umount /root && echo "installation: end"
poweroff -f
