#!/bin/sh
# Debian's packages: sh examples/packages/deb.sh DIRECTORY [BUILT]
#
# Leaves libsbx0, libsbx-dev and python3-libsbx in the directory. BUILT has libsbx.so, libsbx.a and sbx-keeper
# (build.sh); without it they are built, for this machine's glibc.
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
built=${2:-}
[ -z "$built" ] || built=$(cd "$built" && pwd)
cd "$(dirname "$0")/../.."
. tests/setup/say.sh
. tests/setup/packages.sh
. tests/setup/toolchains.sh
. examples/packages/build.sh

need_packages dpkg-deb:dpkg dpkg-shlibdeps:dpkg-dev objcopy:binutils gzip:gzip
need_rust
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
umask 022
if [ -z "$built" ]; then
    need_build_packages
    built=$stage/built
    built_library "$built" cargo build --release --quiet || give_up "the library could not be built; cargo said why above"
fi
[ -e "$built/THIRD-PARTY" ] || python3 -B examples/packages/notices.py cargo >"$built/THIRD-PARTY"
version=$(sbx_version)
arch=$(dpkg --print-architecture)
multiarch=$(cc -dumpmachine)
upstream=$version-1
date=$(LC_ALL=C date -u -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}" '+%a, %d %b %Y %H:%M:%S +0000')
sh examples/install.sh --prefix /usr --libdir "lib/$multiarch" --destdir "$stage/all" --built "$built" --no-runsc --no-debug

# take PACKAGE PATH...: from what was installed.
take() {
    take_to=$stage/$1
    shift
    for item in "$@"; do
        mkdir -p "$take_to/${item%/*}"
        cp -a "$stage/all/$item" "$take_to/$item"
    done
}

# package NAME SECTION ARCHITECTURE DEPENDS SUMMARY: with DESCRIPTION from standard input.
package() {
    root=$stage/$1
    doc=$root/usr/share/doc/$1
    overrides=$root/usr/share/lintian/overrides
    mkdir -p "$doc" "$root/DEBIAN" "$overrides"
    sed -n "s/^PACKAGE:/$1:/; /^$1:/p" examples/packages/lintian-overrides >"$overrides/$1"
    {
        cat <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: libsbx

Files: *
Copyright: libsbx's authors
License: Expat or Apache-2.0

License: Expat
END
        sed 's/^$/./; s/^/ /' LICENSE-MIT
        printf '\nLicense: Apache-2.0\n On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.\n'
    } >"$doc/copyright"
    {
        printf 'libsbx (%s) unstable; urgency=medium\n\n' "$upstream"
        printf '  * CHANGELOG.md of the sources says what is new.\n\n -- %s  %s\n' "$maintainer" "$date"
    } | gzip -9n >"$doc/changelog.Debian.gz"
    {
        printf 'Package: %s\nSource: libsbx\nVersion: %s\nSection: %s\nPriority: optional\n' "$1" "$upstream" "$2"
        printf 'Architecture: %s\nMaintainer: %s\n' "$3" "$maintainer"
        [ "$3" = all ] || printf 'Multi-Arch: same\n'
        printf 'Installed-Size: %s\n' "$(du -ks --exclude=DEBIAN "$root" | cut -f 1)"
        [ -z "$4" ] || printf 'Depends: %s\n' "$4"
        printf 'Description: %s\n' "$5"
        sed 's/^/ /'
    } >"$root/DEBIAN/control"
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
    find "$root" -type d -exec chmod 755 {} +
    dpkg-deb --root-owner-group -Zxz --build "$root" "$out/$1_${upstream}_$3.deb" >/dev/null
    say "$1_${upstream}_$3.deb"
}
maintainer='libsbx packagers <packagers@libsbx.example>'

take libsbx0 "usr/lib/$multiarch/libsbx.so.$version" "usr/lib/$multiarch/libsbx.so.0"
mkdir -p "$stage/libsbx0/usr/lib/$multiarch/libsbx" "$stage/libsbx0/usr/share/doc/libsbx0" "$stage/libsbx0/DEBIAN"
install -m 755 "$stage/all/usr/libexec/sbx-keeper" "$stage/libsbx0/usr/lib/$multiarch/libsbx/sbx-keeper"
cp "$built/THIRD-PARTY" "$stage/libsbx0/usr/share/doc/libsbx0/THIRD-PARTY"
gzip -9n "$stage/libsbx0/usr/share/doc/libsbx0/THIRD-PARTY"
printf 'libsbx 0 libsbx0 (>= %s)\n' "$version" >"$stage/libsbx0/DEBIAN/shlibs"
printf 'activate-noawait ldconfig\n' >"$stage/libsbx0/DEBIAN/triggers"
mkdir -p "$stage/control/debian"
printf 'Source: libsbx\n\nPackage: libsbx0\nArchitecture: any\n' >"$stage/control/debian/control"
depends=$(cd "$stage/control" && dpkg-shlibdeps --ignore-missing-info -O -e"$stage/libsbx0/usr/lib/$multiarch/libsbx.so.$version" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
package libsbx0 libs "$arch" "${depends:?}" "gVisor sandboxes inside your own process" <<'END'
A program that links this library can run untrusted code in gVisor sandboxes
and reach servers in them through TLS or TCP tunnels. It needs no daemon and
no root. gVisor's runsc has to be installed beside it.
END

take libsbx-dev "usr/lib/$multiarch/libsbx.so" "usr/lib/$multiarch/libsbx.a" "usr/lib/$multiarch/pkgconfig/sbx.pc" \
    "usr/lib/$multiarch/cmake/sbx/sbx-config.cmake" "usr/lib/$multiarch/cmake/sbx/sbx-config-version.cmake" \
    usr/include/sbx.h usr/include/sbx.hpp
package libsbx-dev libdevel "$arch" "libsbx0 (= $upstream)" "gVisor sandboxes inside your own process (development)" <<'END'
The headers for C and C++, the static library, and the files for pkg-config
and CMake of libsbx.
END

python=$stage/python3-libsbx
mkdir -p "$python/usr/lib/python3/dist-packages" "$python/DEBIAN"
(cd examples/python && find libsbx -name "*.py" -o -name py.typed | sort | tar -c --files-from=-) | tar -x -C "$python/usr/lib/python3/dist-packages"
printf '#!/bin/sh\nset -e\nif command -v py3compile >/dev/null 2>&1; then\n\tpy3compile -p python3-libsbx\nfi\n' >"$python/DEBIAN/postinst"
printf '#!/bin/sh\nset -e\nif command -v py3clean >/dev/null 2>&1; then\n\tpy3clean -p python3-libsbx\nfi\n' >"$python/DEBIAN/prerm"
chmod 755 "$python/DEBIAN/postinst" "$python/DEBIAN/prerm"
package python3-libsbx python all "libsbx0 (>= $version), python3 (>= 3.9)" "gVisor sandboxes inside your own process (Python 3)" <<'END'
The package libsbx for Python, under the names of Modal's Sandboxes, over the
shared library.
END
