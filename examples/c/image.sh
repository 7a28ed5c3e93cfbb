#!/bin/sh
# Imports a root file system that has one program, busybox, and runs it there: sh examples/c/image.sh PROGRAM, which is
# examples/c/image.c compiled. Then it builds one. Needs busybox-static.
set -eu
program=$1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
# Images are kept here, and not in the user's cache.
export XDG_CACHE_HOME="$directory/cache"

mkdir -p "$directory/root/bin"
cp /usr/bin/busybox "$directory/root/bin/"
tar -C "$directory/root" -czf "$directory/root.tar.gz" .
for source in "$directory/root.tar.gz" "$directory/root"; do
    said=$("$program" "$source" /bin/busybox echo "hello from $source")
    if [ "$said" != "hello from $source" ]; then
        echo "$program said \"$said\"" >&2
        exit 1
    fi
done

cat >"$directory/Dockerfile" <<'END'
FROM scratch
COPY root /
RUN ["/bin/busybox", "sh", "-c", "echo built >/said"]
CMD ["/bin/busybox", "cat", "/said"]
END
said=$("$program" "$directory/Dockerfile")
if [ "$said" != built ]; then
    echo "$program said \"$said\"" >&2
    exit 1
fi
echo "a program ran on an image"
