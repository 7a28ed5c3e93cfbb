//! Whose copied files are: numbers, or names that the image knows.

use crate::error::{Error, Result};

/// User and group.
pub(super) type Owner = (u32, u32);

/// The most of `/etc/passwd` or `/etc/group` that is read.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads `user` or `user:group`, each a number or a name. Without a group it has the user's number, as in docker. `read` is
/// asked for the image's files only where there is a name.
pub(super) fn resolve(text: &str, mut read: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<Owner> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let mut number = |name: &str, what: &str, path: &str| -> Result<u32> {
        if let Ok(number) = name.parse::<u32>()
            && number != u32::MAX
        {
            return Ok(number);
        }
        let found = match name {
            "" => None,
            "root" => Some(0),
            name => find(&read(path)?, name),
        };
        found.ok_or_else(|| {
            Error::invalid(format!(
                "--chown={text}: the image has no {what} {name:?} in {path}; give its number"
            ))
        })
    };
    let user = number(user, "user", "/etc/passwd")?;
    let group = group.map(|group| number(group, "group", "/etc/group")).transpose()?;
    Ok((user, group.unwrap_or(user)))
}

/// The number of a name, in a file as passwd(5) and group(5) have it.
fn find(file: &[u8], name: &str) -> Option<u32> {
    let text = String::from_utf8_lossy(file);
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1))??.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> Result<Owner> {
        resolve(text, |path| {
            Ok(match path {
                "/etc/passwd" => b"root:x:0:0::/:/bin/sh\nweb:x:1000:1001::/:/bin/sh\nbad:x:y\n".to_vec(),
                _ => b"root:x:0:\nstaff:x:50:web\n".to_vec(),
            })
        })
    }

    #[test]
    fn numbers_and_names_are_owners() {
        for (text, owner) in [
            ("5", (5, 5)),
            ("5:6", (5, 6)),
            ("web", (1000, 1000)),
            ("web:staff", (1000, 50)),
            ("web:7", (1000, 7)),
            ("root", (0, 0)),
        ] {
            assert_eq!(look(text).unwrap(), owner, "{text}");
        }
        for bad in ["mallory", "web:mallory", "bad", "", ":", "4294967295", "-1"] {
            assert!(look(bad).unwrap_err().message().contains("--chown"), "{bad}");
        }
    }

    #[test]
    fn the_image_is_not_looked_at_for_numbers() {
        let never = |_: &str| -> Result<Vec<u8>> { panic!("it was read") };
        assert_eq!(resolve("1:2", never).unwrap(), (1, 2));
    }
}
