#!/bin/sh
# Tests under cgroup v2, in a virtual machine: sh tests/vm/cgroups.sh path/to/limits_of_memory path/to/runsc [PROGRAM...]
#
# The first program is the tests of limits. Each other one is a program of tests/*.rs that runs there too, as root and as an
# ordinary user, but for the tests that init names. With "" in place of the first, only the others run, and with words in
# SBX_VM_FILTER only those of their tests that have one in their name. The last lines say how many of each passed.
# Built with CARGO_PROFILE_DEV_OPT_LEVEL=2 they are quick enough there for the tests' patience: tests/long/cgroups.sh does that.
#
# The machine has Debian's cloud kernel and a root file system of the release that runs here. It is emulated, so that it runs
# where there is no KVM. SBX_VM_KERNEL names another package with a kernel, of the release in SBX_VM_RELEASE if the sources of
# this system don't have it: SBX_VM_RELEASE=bullseye SBX_VM_KERNEL=linux-image-cloud-amd64. What is downloaded is kept in
# target/vm.
set -eu
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/long/common.sh

program=$1
runsc=$2
shift 2
store=$(pwd)/target/vm
# Owners in the root file system are root's to make.
[ "$(id -u)" = 0 ] || give_up "the root file system of the virtual machine can't be made by an ordinary user" "run this as root"
need_packages qemu-system-x86_64:qemu-system-x86 stdbuf:coreutils dpkg-deb:dpkg mke2fs:e2fsprogs mmdebstrap:mmdebstrap \
    strip:binutils xz:xz-utils /usr/bin/busybox:busybox-static depmod:kmod
mkdir -p "$store"

# of_release TOOL ARGUMENT...: one of apt's tools, with the lists of SBX_VM_RELEASE if that is set.
of_release() {
    if [ -n "${SBX_VM_RELEASE:-}" ]; then
        tool=$1
        shift
        set -- "$tool" -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$apt/lists" \
            -o "Dir::Cache=$apt/cache" "$@"
    fi
    "$@"
}
apt=$store/apt-${SBX_VM_RELEASE:-}
if [ -n "${SBX_VM_RELEASE:-}" ] && [ ! -e "$apt/complete" ]; then
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    security=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian-Security' | head -n 1)
    signed="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    printf 'deb %s %s main\n' "$signed ${mirror:-http://deb.debian.org/debian}" "$SBX_VM_RELEASE" \
        "$signed ${security:-http://deb.debian.org/debian-security}" "$SBX_VM_RELEASE-security" >"$apt/sources.list"
    of_release apt-get -qq update
    : >"$apt/complete"
fi

# unpack PACKAGE: downloads a package of Debian's, once, and unpacks it.
unpack() {
    if [ ! -d "$store/$1" ]; then
        (
            cd "$store"
            rm -rf "$1".* ./"$1"_*.deb
            of_release apt-get download -qq "$1"
            dpkg-deb -x ./"$1"_*.deb "$1.new"
            rm -f ./"$1"_*.deb
            mv "$1.new" "$1"
        )
    fi
}

# The package that a package without a version in its name stands for, remembered: lists of packages age.
wanted=${SBX_VM_KERNEL:-linux-image-cloud-amd64}
kept=$store/${SBX_VM_RELEASE:-here}-$wanted
if [ ! -e "$kept" ]; then
    of_release apt-cache show "$wanted" >"$kept.new" 2>/dev/null || :
    [ -s "$kept.new" ] || give_up "apt knows no $wanted" "apt-get update"
    depends=$(of_release apt-cache depends "$wanted" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
    printf '%s\n' "${depends:-$wanted}" >"$kept.new"
    mv "$kept.new" "$kept"
fi
kernel_package=$(cat "$kept")
unpack "$kernel_package"
kernel=$(ls "$store/$kernel_package"/boot/vmlinuz-*)
modules=$(ls -d "$store/$kernel_package"/lib/modules/*)
say "kernel: ${modules##*/}"

# All that the tests call.
make_root vm "busybox-static,ca-certificates,curl,docker-registry,erofs-utils,gcc,gzip,iproute2,kmod,libc6-dev,nftables,\
openssl,procps,python3,skopeo,umoci,zstd"
disk=$store/root.ext4
if [ ! -e "$disk" ] || [ target/roots/vm.tar -nt "$disk" ]; then
    rm -rf "$store/root" "$disk.new"
    mkdir "$store/root"
    tar -x -C "$store/root" --numeric-owner --exclude='./dev/*' -f target/roots/vm.tar
    rm -rf "$store/root/var/cache/apt" "$store/root/usr/share/doc" "$store/root/usr/share/locale"
    mke2fs -q -t ext4 -d "$store/root" -m 0 "$disk.new" 3G >/dev/null
    rm -rf "$store/root"
    mv "$disk.new" "$disk"
fi

work=$(mktemp -d /var/tmp/sbx-vm.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# What is begun with: it mounts the disk and goes there, with what is tested and the kernel's modules.
root=$work/root
mkdir -p "$root/bin" "$root/proc" "$root/dev" "$root/new" "$root/test/others"
busybox=/usr/bin/busybox
cp "$busybox" "$root/bin/busybox"
for applet in sh mount mkdir cp chmod ln modprobe switch_root; do
    ln -s busybox "$root/bin/$applet"
done
(
    cd "$modules"
    into=$root/lib/modules/${modules##*/}
    mkdir -p "$into"
    cp modules.builtin modules.builtin.modinfo modules.order "$into"
    for each in net drivers/net/veth.ko drivers/virtio drivers/block lib crypto arch/x86/crypto fs/ext4 fs/jbd2 fs/mbcache.ko; do
        for path in "kernel/$each"*; do
            [ ! -e "$path" ] || cp --parents -r "$path" "$into"
        done
    done
    find "$into" -name '*.xz' -exec xz -d {} +
)
depmod -b "$root" "${modules##*/}"
runs=0
if [ -n "$program" ]; then
    strip -o "$root/test/limits" "$program"
    runs=5
fi
for other; do
    name=${other##*/}
    name=${name%-*}
    strip -o "$root/test/others/$name" "$other"
    runs=$((runs + 2))
    case $name in
        # Their hosts are compiled there.
        contract | faults)
            mkdir -p "$root/test/checkout"
            cp -r include tests "$root/test/checkout"
            strip -o "$root/test/libsbx.so" "${other%/*}/libsbx.so"
            ;;
    esac
done
printf '%s\n' "${SBX_VM_FILTER:-}" >"$root/test/filter"
cp "$runsc" "$root/test/runsc"
chmod 755 "$root/test/runsc"
cp tests/vm/init "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$work/initramfs"

status=0
# Each run ends at its time (init); this is for a machine that hangs.
TMPDIR=$work timeout $((600 + 1000 * runs)) qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -nographic \
    -no-reboot -drive "file=$disk,if=virtio,format=raw,snapshot=on" -kernel "$kernel" -initrd "$work/initramfs" \
    -append "console=ttyS0 panic=-1 loglevel=1" </dev/null | stdbuf -o0 tr -d '\r' | tee "$work/log" || status=$?

# A line for each: what the test programs say themselves, and what it ended with where that says more.
awk -v runs="$runs" '
    /^== .* ==$/ { passed = failed = left = 0; said = "" }
    /^test .* FAILED$/ { said = said "\n    " $2 }
    /^test result: / { passed += $4; failed += $6; left += $8 + $12 }
    /^cgroups: / {
        printf "%-32s %3d passed, %d failed, %d left out%s%s\n", $2, passed, failed, left,
            ($3 != 0 && failed == 0 ? "; it ended with " $3 : ""), said
        bad += $3 != 0
        ended++
    }
    END { if (ended != runs) { print "the virtual machine did not get to its end"; bad++ }; exit bad != 0 }' "$work/log" || status=1
[ "$status" = 0 ] || give_up "tests failed under cgroup v2" "see above"
