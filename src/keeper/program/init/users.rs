//! Looks users and groups up in the sandbox's own `/etc/passwd` and `/etc/group` (passwd(5)).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use crate::wire::init::User;

/// The most bytes of a file that are read.
const MAX_FILE_SIZE: u64 = 1024 * 1024;
/// The most supplementary groups of a user. NGROUPS_MAX is larger, but no sensible image needs more.
const MAX_GROUPS: usize = 256;

/// The ids that a program runs with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: Vec<u8>,
}

/// Both files as last read. They are read again when they change.
#[derive(Debug)]
pub(super) struct Accounts([Cached; 2]);

#[derive(Debug)]
struct Cached {
    path: &'static str,
    /// Device, inode, size, and time of the last change (ctime).
    version: Option<(u64, u64, u64, i64, i64)>,
    text: Vec<u8>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self(["/etc/passwd", "/etc/group"].map(|path| Cached { path, version: None, text: Vec::new() }))
    }
}

impl Accounts {
    /// Looks a user up. A number needs no entry: without one its group has the same number (in an image 0), it has no
    /// other groups, and its home is `/`. A name without an entry is `None`.
    pub(super) fn look_up(&mut self, user: &User) -> Option<Identity> {
        let [passwd, groups] = &mut self.0;
        find(user, passwd.current(), groups.current())
    }
}

impl Cached {
    fn current(&mut self) -> &[u8] {
        let version = std::fs::metadata(self.path).ok();
        let version =
            version.map(|data| (data.dev(), data.ino(), data.size(), data.ctime(), data.ctime_nsec()));
        if version.is_none() || version != self.version {
            self.text.clear();
            if let Ok(file) = File::open(self.path) {
                let _ = file.take(MAX_FILE_SIZE).read_to_end(&mut self.text);
            }
            self.version = version;
        }
        &self.text
    }
}

fn find(user: &User, passwd: &[u8], groups: &[u8]) -> Option<Identity> {
    let wanted = if user.user.is_empty() { "0" } else { &user.user };
    let entry = lines(passwd).find(|fields| matches(fields, 0, 2, wanted));
    let number = wanted.parse().ok();
    let (name, id, own_group, home) = match entry {
        Some(fields) => {
            let id = parse(fields.get(2)?)?;
            (
                fields.first().copied(),
                id,
                parse(fields.get(3)?)?,
                fields.get(5).map_or(&b"/"[..], |home| home),
            )
        }
        // The group has the user's number, like the groups that useradd(8) creates. Docker uses group 0 here,
        // which would give an unknown user access to the files of root's group; images are made for that.
        None => (None, number?, if user.of_image { 0 } else { number? }, &b"/"[..]),
    };
    let is_only_group = user.of_image && !user.group.is_empty();
    let group = match user.group.as_str() {
        "" => own_group,
        wanted => match lines(groups).find(|fields| matches(fields, 0, 2, wanted)) {
            Some(fields) => parse(fields.get(2)?)?,
            None => wanted.parse().ok()?,
        },
    };
    let member = |fields: &Vec<&[u8]>| {
        !is_only_group
            && name.is_some_and(|name| {
                fields.get(3).is_some_and(|list| list.split(|byte| *byte == b',').any(|who| who == name))
            })
    };
    let more = lines(groups).filter(member).filter_map(|fields| parse(fields.get(2)?)).take(MAX_GROUPS);
    let groups = std::iter::once(group).chain(more.filter(|more| *more != group)).collect();
    Some(Identity {
        user: id,
        group,
        groups,
        home: if home.is_empty() { b"/".to_vec() } else { home.to_vec() },
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':').collect())
}

/// Whether the name or the number of an entry is `wanted`.
fn matches(fields: &[&[u8]], name: usize, number: usize, wanted: &str) -> bool {
    let same = |index: usize| fields.get(index).is_some_and(|field| *field == wanted.as_bytes());
    same(name) || same(number)
}

fn parse(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}
