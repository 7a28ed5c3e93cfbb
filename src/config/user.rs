//! The user that a program runs as.

use std::fmt;

use crate::config::rules::refuse;
use crate::error::Result;

/// A user or group: by number, or by a name that the sandbox's passwd and group files resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// The user that a program runs as: `user` or `user:group`, each a number or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The user.
    pub(crate) user: Account,
    /// The group; the user's own if none is given.
    pub(crate) group: Option<Account>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The form of a configuration.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.user)?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

impl User {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            None => (text, None),
            Some((user, group)) => (user, Some(group)),
        };
        Ok(Self { user: account(text, user)?, group: group.map(|group| account(text, group)).transpose()? })
    }
}

fn account(whole: &str, part: &str) -> Result<Account> {
    let bytes = part.as_bytes();
    if bytes.first().is_some_and(u8::is_ascii_digit) {
        // (uid_t)-1 means "leave it as it is" to the system calls: a program that asks for it stays root.
        return match part.parse::<u32>() {
            Ok(id) if id != u32::MAX && bytes.iter().all(u8::is_ascii_digit) => Ok(Account::Id(id)),
            _ => Err(refuse("user", whole, "a number must be decimal and from 0 to 4294967294")),
        };
    }
    let name = bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        && bytes.len() <= 32
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte));
    if name {
        return Ok(Account::Name(part.to_owned()));
    }
    Err(refuse("user", whole, "must be \"name\", \"uid\", \"uid:gid\" or \"name:group\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms() {
        let name = |name: &str| Account::Name(name.to_owned());
        assert_eq!(User::parse("nobody").unwrap(), User { user: name("nobody"), group: None });
        assert_eq!(User::parse("0").unwrap(), User { user: Account::Id(0), group: None });
        assert_eq!(
            User::parse("1000:100").unwrap(),
            User { user: Account::Id(1000), group: Some(Account::Id(100)) }
        );
        assert_eq!(
            User::parse("www-data:adm").unwrap(),
            User { user: name("www-data"), group: Some(name("adm")) }
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            ":",
            "a:",
            ":b",
            "a:b:c",
            "-1",
            "+1",
            "0x10",
            "10a",
            "4294967295",
            "4294967296",
            "a b",
            "a\0",
            "ä",
            "1:4294967295",
        ] {
            assert!(User::parse(bad).is_err(), "{bad:?}");
        }
    }
}
