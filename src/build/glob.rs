//! Patterns for paths: those of COPY (Go's `filepath.Match`) and of `.dockerignore`, where `**` is any number of directories.

use std::iter::Peekable;
use std::str::Chars;

/// The most steps of a pattern that is compared: it takes that many times the length of a path.
const MAX_TOKENS: usize = 4096;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character that isn't a slash.
    One,
    /// `*`: any number of those.
    Star,
    /// `**` at an end: anything.
    All,
    /// `**/`: nothing, or anything up to a slash. [`Self::Below`] always follows.
    Directories,
    /// Within what [`Self::Directories`] stands for.
    Below,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// A pattern of one name in a path, or an error that says what is wrong with it.
    pub(super) fn name(text: &str) -> Result<Self, &'static str> {
        Self::read(text, false)
    }

    /// A pattern of a whole path, in which `**` is any number of directories.
    pub(super) fn path(text: &str) -> Result<Self, &'static str> {
        Self::read(text, true)
    }

    fn read(text: &str, deep: bool) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut left = text.chars().peekable();
        while let Some(character) = left.next() {
            match character {
                '*' if deep && left.next_if_eq(&'*').is_some() => {
                    let slash = left.next_if_eq(&'/').is_some();
                    // `**name` is the end of a path, too, but only at the beginning and without other wildcards.
                    let suffix = tokens.is_empty() && !slash && is_literal(left.clone());
                    if left.peek().is_none() || suffix {
                        tokens.push(Token::All);
                    } else {
                        tokens.extend([Token::Directories, Token::Below]);
                    }
                }
                // Several in a row, which can only be in a name's pattern, are one.
                '*' if tokens.last() == Some(&Token::Star) => {}
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '[' => tokens.push(class(&mut left)?),
                '\\' => match left.next() {
                    Some(escaped) => tokens.push(Token::Literal(escaped)),
                    None => return Err("ends with a \\ that escapes nothing"),
                },
                literal => tokens.push(Token::Literal(literal)),
            }
            if tokens.len() > MAX_TOKENS {
                return Err("is too long");
            }
        }
        Ok(Self { tokens })
    }

    /// The text that it stands for, if it has no wildcard.
    pub(super) fn literal(&self) -> Option<String> {
        self.tokens
            .iter()
            .map(|token| match token {
                Token::Literal(character) => Some(*character),
                _ => None,
            })
            .collect()
    }

    /// Whether it is this whole text. Takes at most the product of their lengths.
    pub(super) fn matches(&self, text: &str) -> bool {
        // Whether what was read so far can be what stands before each token, and before the end.
        let mut at = vec![false; self.tokens.len() + 1];
        if let Some(start) = at.first_mut() {
            *start = true;
        }
        self.skip_empty(&mut at);
        for character in text.chars() {
            let mut next = vec![false; at.len()];
            let mut reached = false;
            let mut set = |index: usize| {
                if let Some(place) = next.get_mut(index) {
                    *place = true;
                    reached = true;
                }
            };
            for (index, token) in self.tokens.iter().enumerate() {
                if !at.get(index).copied().unwrap_or_default() {
                    continue;
                }
                match token {
                    Token::Literal(literal) if *literal == character => set(index + 1),
                    Token::One if character != '/' => set(index + 1),
                    Token::Star if character != '/' => set(index),
                    Token::All => set(index),
                    Token::Directories => {
                        set(index + 1);
                        if character == '/' {
                            set(index + 2);
                        }
                    }
                    Token::Below => {
                        set(index);
                        if character == '/' {
                            set(index + 1);
                        }
                    }
                    Token::Class { negated, ranges } => {
                        let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                        if within != *negated {
                            set(index + 1);
                        }
                    }
                    _ => {}
                }
            }
            if !reached {
                return false;
            }
            self.skip_empty(&mut next);
            at = next;
        }
        at.last().copied().unwrap_or_default()
    }

    /// Tokens that can stand for nothing are passed.
    fn skip_empty(&self, at: &mut [bool]) {
        for (index, token) in self.tokens.iter().enumerate() {
            let steps = match token {
                Token::Star | Token::All => 1,
                Token::Directories => 2,
                _ => continue,
            };
            if at.get(index).copied().unwrap_or_default()
                && let Some(place) = at.get_mut(index + steps)
            {
                *place = true;
            }
        }
    }
}

/// Whether what is left has no wildcard.
fn is_literal(mut left: impl Iterator<Item = char>) -> bool {
    left.all(|character| !matches!(character, '*' | '?' | '[' | ']' | '\\'))
}

const UNENDED: &str = "has a [ without a ]";

/// What follows a `[`.
fn class(left: &mut Peekable<Chars<'_>>) -> Result<Token, &'static str> {
    let negated = left.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && left.next_if_eq(&']').is_some() {
            return Ok(Token::Class { negated, ranges });
        }
        let low = bound(left)?;
        let high = if left.next_if_eq(&'-').is_some() { bound(left)? } else { low };
        if ranges.len() == MAX_TOKENS {
            return Err("is too long");
        }
        ranges.push((low, high));
    }
}

/// An end of a range in a class.
fn bound(left: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    match left.next() {
        Some('\\') => left.next().ok_or(UNENDED),
        Some('-' | ']') => Err("has a - or ] in [] that must stand after a \\"),
        Some(character) => Ok(character),
        None => Err(UNENDED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_matched_as_go_does() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a\u{263a}b", true),
            ("a[^a]b", "a\u{263a}b", true),
            ("a???b", "a\u{263a}b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("***", "x", true),
            ("", "", true),
            ("", "x", false),
            ("[[]0]", "[0]", true),
        ] {
            assert_eq!(Pattern::name(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[a-\\"] {
            assert!(Pattern::name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_stars_stand_for_directories() {
        for (pattern, text, expected) in [
            ("**", "a/b", true),
            ("**/b", "b", true),
            ("**/b", "a/x/b", true),
            ("**/b", "ab", false),
            ("**b", "a/ab", true),
            ("**b*", "ab", false),
            ("**b*", "a/bc", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("a/**/c", "a/bc", false),
            ("a**/c", "ac", true),
            ("a**/c", "ax/c", true),
            ("**/*.go", "a/b.go", true),
            ("**/*.go", "b.go", true),
            ("**/a/**/b", "x/a/y/z/b", true),
            ("*", "a/b", false),
            ("a.b", "aXb", false),
            ("a+(b)|c$", "a+(b)|c$", true),
        ] {
            assert_eq!(Pattern::path(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = Pattern::path(&"**/*a".repeat(500)).unwrap();
        assert!(!pattern.matches(&"a/".repeat(2000)));
        assert!(Pattern::path(&"?".repeat(MAX_TOKENS + 1)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn an_escaped_text_is_matched_by_nothing_else(text in "\\PC{0,12}", other in "\\PC{0,12}") {
            let escaped: String = text.chars().flat_map(|character| ['\\', character]).collect();
            for pattern in [Pattern::name(&escaped).unwrap(), Pattern::path(&escaped).unwrap()] {
                assert!(pattern.matches(&text));
                assert_eq!(pattern.matches(&other), text == other);
                assert_eq!(pattern.literal(), Some(text.clone()));
            }
        }
    }
}
