#!/bin/sh
# The unit of examples/deploy under systemd: sh tests/places/unit.sh SYSTEM PLACE UNIT SAID, as process 1 of namespaces of its own
#
# SYSTEM is a root file system of Debian with systemd, PLACE one with `place`, `doctor`, libsbx and runsc (places.sh makes it),
# UNIT the unit, which runs both programs here instead of its own; what they say is written to SAID. Systemd has a control group of version 2 for its root, and
# sees nothing of the machine's files.
set -eu
system=$1
place=$2
unit=$3
said=$4

ip link set lo up
root=$(mktemp -d)
mount -t tmpfs tmpfs "$root"
mkdir "$root/upper" "$root/work" "$root/root"
mount -t overlay -o "lowerdir=$system,upperdir=$root/upper,workdir=$root/work" overlay "$root/root"
root=$root/root
cp -a "$place/usr/local/bin/." "$root/usr/local/bin/"
cp "$place/usr/lib/libsbx.so.0" "$root/usr/lib/"
cp "$place/bin/busybox" "$root/usr/bin/busybox"
cp -a "$place/image" "$root/srv/image"
printf 'sbx-app:x:990:990::/:/usr/sbin/nologin\n' >>"$root/etc/passwd"
printf 'sbx-app:x:990:\n' >>"$root/etc/group"
cp "$unit" "$root/etc/systemd/system/app.service"
mkdir "$root/etc/systemd/system/app.service.d"
cat >"$root/etc/systemd/system/app.service.d/test.conf" <<'END'
[Unit]
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
Restart=no
TimeoutStartSec=300
StandardOutput=append:/said
StandardError=append:/said
ExecStart=
ExecStart=/usr/local/bin/doctor
ExecStart=/usr/local/bin/place /srv/image
ExecStopPost=/bin/sh -c 'echo "unit: $$SERVICE_RESULT"'
END
: >"$root/said"
mount --bind "$said" "$root/said"
# A target that has nothing but the unit: no program of the system is needed.
cat >"$root/etc/systemd/system/test.target" <<'END'
[Unit]
Requires=sysinit.target app.service
AllowIsolate=yes
END
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts" "$root/mnt/old"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
cd "$root"
pivot_root . mnt/old
umount -l /mnt/old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=test.target \
    --log-target=console --log-level=notice --show-status=no
