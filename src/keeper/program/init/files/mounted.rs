//! Where something is mounted in a directory.
//!
//! A mount of a file doesn't show in its device, since it may be of the directory's own.

use std::collections::HashSet;

/// The mount points below a directory, relative to it, of a text like /proc/self/mountinfo (proc_pid_mountinfo(5)).
pub(super) fn mounted_below(mountinfo: &[u8], directory: &[u8]) -> HashSet<Vec<u8>> {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let points = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let point = unescape(line.split(|byte| *byte == b' ').nth(4)?);
        point.strip_prefix(directory)?.strip_prefix(b"/").map(<[u8]>::to_vec)
    });
    points.collect()
}

/// A path with its bytes that were written as a backslash and three octal digits.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        text = rest;
        let digits =
            rest.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                text = rest.get(3..).unwrap_or_default();
            }
            None => path.push(*first),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_a_directory_are_found() {
        let text = b"1 0 0:1 / / rw - 9p none rw\n2 1 0:2 / /work/a\\040file rw - 9p none rw\nnonsense\n\
            3 1 0:3 / /work/deep/file rw - 9p none rw\n4 1 0:4 / /workshop rw - 9p none rw\n5 1 0:5 / /work rw - 9p none rw\n";
        let names = |directory: &[u8]| {
            let mut names: Vec<String> = mounted_below(text, directory)
                .into_iter()
                .map(|name| String::from_utf8(name).unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(b"/work"), ["a file", "deep/file"]);
        assert_eq!(names(b"/work/deep"), ["file"]);
        assert_eq!(names(b"/"), ["", "work", "work/a file", "work/deep/file", "workshop"]);
        assert_eq!(unescape(b"\\134040\\9\\04"), b"\\040\\9\\04");
    }
}
