#!/bin/sh
# Runs at the end of the image build; $1 is the root of the new file system, $2 this folder.
set -eu
root=$1
files=$2
install -m 644 "$files/objectstore-boot.service" "$files/ssh-hostkeys.service" \
  "$files/container-host.service" "$root/etc/systemd/system/"
install -D "$files/container-host.sh" "$root/usr/local/lib/objectstore/container-host.sh"
install -m 644 "$files/sshd.conf" "$root/etc/ssh/sshd_config.d/10-objectstore.conf"
chroot "$root" systemctl -q enable objectstore-boot.service container-host.service \
    ssh-hostkeys.service ssh.service
# The address comes from the boot unit: networkd would wait for a udev that containers lack.
chroot "$root" systemctl -q mask systemd-networkd.service systemd-networkd.socket \
    systemd-network-generator.service systemd-networkd-wait-online.service \
    systemd-modules-load.service proc-sys-fs-binfmt_misc.automount
# Timers that would only cost the store's nodes work.
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
    fstrim.timer dpkg-db-backup.timer
# Ansible starts what a node runs, once it is configured.
chroot "$root" systemctl -q disable containerd.service keepalived.service ceph.target \
    ceph-crash.service rbdmap.service cron.service
# What came along with Ceph's packages, for devices that nodes do not have.
chroot "$root" systemctl -q disable nvmf-autoconnect.service nvmefc-boot-connections.service \
    smartmontools.service xfs_scrub_all.timer
mkdir -p "$root/etc/objectstore"
# No apt source: nodes install from bundles alone.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf" \
    "$root/etc/apt/sources.list"
: > "$root/etc/machine-id"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
