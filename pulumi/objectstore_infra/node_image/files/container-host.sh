#!/bin/sh
# What a privileged container needs before containers can run in it, at every boot.
set -eu
mount --make-rshared /
# On a host with cgroups of version 1, systemd leaves unmounted what it does not use itself.
if [ "$(stat -fc %T /sys/fs/cgroup)" = tmpfs ]; then
  mount -o remount,rw /sys/fs/cgroup
  for controller in cpu cpuacct; do
    folder=/sys/fs/cgroup/$controller
    if ! mountpoint -q "$folder"; then
      rm -f "$folder"
      mkdir -p "$folder"
      mount -t cgroup -o "$controller" cgroup "$folder"
    fi
  done
fi
