#!/bin/sh
# Tests under cgroup v2, in a virtual machine: sh tests/vm/cgroups.sh path/to/limits_of_memory path/to/runsc [PROGRAM...]
#
# The first program is the tests of limits. Each other one is a program of tests/*.rs that runs there too, as root and as an
# ordinary user, but for the tests that init names. With "" in place of the first, only the others run, and with words in
# SBX_VM_FILTER only those of their tests that have one in their name.
# Built with CARGO_PROFILE_DEV_OPT_LEVEL=2 they are quick enough there for the tests' patience.
# Debian's cloud kernel with an initramfs made here, emulated, so that it runs where there is no KVM. What is downloaded is kept in
# target/vm.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh

program=$1
runsc=$2
shift 2
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
for applet in sh cat head true yes sleep mount mkdir echo ls find chown chmod su env poweroff cp switch_root \
    basename gzip id ip kill mknod rm stat tar; do
    ln -s busybox "$root/usr/bin/$applet"
done
# add PROGRAM PLACE: a program, with the libraries that it loads.
add() {
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
    rm -f "$root/$2"
    strip -o "$root/$2" "$1"
}
mkdir "$root/test/others"
runs=0
if [ -n "$program" ]; then
    add "$program" test/limits
    runs=5
fi
for other; do
    name=${other##*/}
    add "$other" "test/others/${name%-*}"
    runs=$((runs + 2))
done
printf '%s\n' "${SBX_VM_FILTER:-}" >"$root/test/filter"
if [ $# != 0 ]; then
    # What busybox does otherwise.
    for name in cp id; do
        add "/usr/bin/$name" "usr/bin/$name"
    done
    # These have sandboxes with networks.
    modules=$(ls -d "$store/$kernel_package"/lib/modules/*)
    (
        cd "$modules/kernel"
        into=$root/usr/lib/modules/${modules##*/}/kernel
        mkdir -p "$into"
        cp --parents -r net/netfilter net/ipv4/netfilter net/ipv6/netfilter drivers/net/veth.ko lib/libcrc32c.ko "$into"
    )
    "$busybox" depmod -b "$root" "${modules##*/}"
    for applet in modprobe depmod; do
        ln -s ../bin/busybox "$root/usr/sbin/$applet"
    done
fi
cp "$runsc" "$root/test/runsc"
chmod 755 "$root/test/runsc"
printf 'root:x:0:0::/root:/bin/sh\nuser:x:1001:1001::/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1001:\n' >"$root/etc/group"
cp tests/vm/init "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs"

status=0
timeout $((600 + 300 * runs)) qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot \
    -kernel "$kernel" -initrd "$work/initramfs" -append "console=ttyS0 panic=-1 loglevel=1" </dev/null |
    stdbuf -o0 tr -d '\r' | tee "$work/log" || status=$?
[ "$status" = 0 ] || give_up "the virtual machine ended with $status" "see what it said above"
[ "$(grep -c '^cgroups: ' "$work/log")" = "$runs" ] || give_up "the virtual machine did not get to its end" "see above"
if grep '^cgroups: ' "$work/log" | grep -v ' 0$'; then
    give_up "tests failed under cgroup v2" "see above"
fi
