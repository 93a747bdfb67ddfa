# Runs in the new Debian, in which nothing is configured yet, and installs the packages as Debian's installer does.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
# The kernel's package makes no initramfs: under emulation that takes as long as all the rest.
export INITRD=No
cd /packages
failed() {
    echo "failed: $*"
}
# Without --force-unsafe-io, each file is flushed. Some packages depend on each other in circles.
install() {
    dpkg --force-unsafe-io --force-depends "$@" < /dev/null 2>&1
}

mkdir -p /var/lib/dpkg
: > /var/lib/dpkg/status
# Nothing is started here.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
# These are what the others ask for the names of users, and for the folders that there are.
install --install base-passwd_*.deb || failed base-passwd
install --install base-files_*.deb || failed base-files
install --install $(cat essential) || failed essential
install --unpack $(cat rest) || failed rest
install --configure --pending || failed configure
dpkg --audit | sed 's/^/failed: /'
rm /usr/sbin/policy-rc.d

# What a person is asked for by an installer.
echo debian > /etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 debian\n' > /etc/hosts
echo '/dev/vda / ext4 defaults 0 1' > /etc/fstab
printf '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n' > /etc/systemd/network/lan.network
systemctl enable systemd-networkd || failed systemctl
passwd --delete root || failed passwd
cp /packages/loop /usr/local/bin/loop
chmod 755 /usr/local/bin/loop
