#!/bin/sh
# The tests of limits under cgroup v2, in a virtual machine: sh tests/vm/cgroups.sh path/to/limits_of_memory path/to/runsc
#
# Debian's cloud kernel with an initramfs made here, emulated, so that it runs where there is no KVM. What is downloaded is kept in
# target/vm.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh

program=$1
runsc=$2
store=$(pwd)/target/vm
need_packages qemu-system-x86_64:qemu-system-x86 stdbuf:coreutils dpkg-deb:dpkg strip:binutils
mkdir -p "$store"

# unpack PACKAGE: downloads a package of Debian's, once, and unpacks it.
unpack() {
    if [ ! -d "$store/$1" ]; then
        (
            cd "$store"
            rm -rf "$1".* ./"$1"_*.deb
            apt-get download -qq "$1"
            dpkg-deb -x ./"$1"_*.deb "$1.new"
            rm -f ./"$1"_*.deb
            mv "$1.new" "$1"
        )
    fi
}

kernel_package=$(ls -d "$store"/linux-image-*-cloud-amd64 2>/dev/null | head -n 1)
if [ -z "$kernel_package" ]; then
    kernel_package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
    [ -n "$kernel_package" ] || give_up "apt knows no linux-image-cloud-amd64" "apt-get update"
fi
kernel_package=${kernel_package##*/}
unpack "$kernel_package"
unpack busybox-static
busybox=$store/busybox-static/bin/busybox
kernel=$(ls "$store/$kernel_package"/boot/vmlinuz-*)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
root=$work/root
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/proc" "$root/sys" "$root/dev" \
    "$root/tmp" "$root/run" "$root/etc" "$root/root" "$root/test"
for directory in bin sbin lib lib64; do
    ln -s "usr/$directory" "$root/$directory"
done
cp "$busybox" "$root/usr/bin/busybox"
for applet in sh cat head true yes sleep mount mkdir echo ls find chown chmod su env poweroff cp switch_root; do
    ln -s busybox "$root/usr/bin/$applet"
done
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
strip -o "$root/test/limits" "$program"
cp "$runsc" "$root/test/runsc"
chmod 755 "$root/test/runsc"
printf 'root:x:0:0::/root:/bin/sh\nuser:x:1001:1001::/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1001:\n' >"$root/etc/group"
cp tests/vm/init "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs"

status=0
timeout 1800 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nographic -no-reboot \
    -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyS0 panic=-1 loglevel=1" </dev/null |
    stdbuf -o0 tr -d '\r' | tee "$work/log" || status=$?
[ "$status" = 0 ] || give_up "the virtual machine ended with $status" "see what it said above"
[ "$(grep -c '^cgroups: ' "$work/log")" = 5 ] || give_up "the virtual machine did not get to its end" "see above"
if grep '^cgroups: ' "$work/log" | grep -v ' 0$'; then
    give_up "limits failed under cgroup v2" "see above"
fi
