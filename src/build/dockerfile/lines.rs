//! The lines of a Dockerfile: directives, comments, continuations and here-documents.

use std::iter::Enumerate;
use std::str::Split;

use super::refusal::{at, unsupported};
use super::words::{self, MAX_WORD_BYTES};
use crate::error::{Code, Error, Result};

const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// The longest instruction, with its continuation lines and here-documents.
pub(super) const MAX_LINE_BYTES: usize = MAX_WORD_BYTES;
pub(super) const MAX_INSTRUCTIONS: usize = 1000;
const MAX_DOCUMENTS: usize = 100;

/// An instruction in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, counted from 1.
    pub(super) number: usize,
    /// In lower case.
    pub(super) keyword: String,
    /// What follows the keyword, without white space around it.
    pub(super) rest: String,
    pub(super) documents: Vec<Document>,
}

/// A here-document: the lines after `<<NAME`, up to the line `NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// The word in the instruction, such as `<<-"EOF"`.
    pub(super) word: String,
    /// The line that ends it.
    pub(super) name: String,
    /// With `<<-` the tabs at the beginning of each line are not part of it.
    strips_tabs: bool,
    /// Each line ends with a line feed.
    pub(super) text: String,
}

impl Document {
    /// The text without the tabs that are not part of it.
    pub(super) fn content(&self) -> String {
        if !self.strips_tabs {
            return self.text.clone();
        }
        self.text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// A Dockerfile's instructions, and the character that escapes.
pub(super) fn read(text: &str) -> Result<(char, Vec<Line>)> {
    if text.len() > MAX_TEXT_BYTES {
        let text = format!("the Dockerfile has {} bytes, limit {MAX_TEXT_BYTES}", text.len());
        return Err(Error::new(Code::Limit, text));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape_character(text)?;
    let mut source = Source { lines: text.split('\n').enumerate(), escape };
    let mut lines = Vec::new();
    while let Some(line) = source.instruction()? {
        if lines.len() == MAX_INSTRUCTIONS {
            let text = format!("more than {MAX_INSTRUCTIONS} instructions: split it into several images");
            return Err(at(line.number, text).with_code(Code::Limit));
        }
        lines.push(line);
    }
    Ok((escape, lines))
}

struct Source<'a> {
    lines: Enumerate<Split<'a, char>>,
    escape: char,
}

impl<'a> Source<'a> {
    /// The next line and its number.
    fn line(&mut self) -> Option<(usize, &'a str)> {
        let (index, line) = self.lines.next()?;
        Some((index + 1, line.strip_suffix('\r').unwrap_or(line)))
    }

    fn instruction(&mut self) -> Result<Option<Line>> {
        let (number, first) = loop {
            let Some((number, line)) = self.line() else { return Ok(None) };
            let line = line.trim_start();
            if !line.is_empty() && !line.starts_with('#') {
                break (number, line);
            }
        };
        let mut text = String::new();
        let mut piece = Some(first);
        while let Some(line) = piece {
            let (line, goes_on) = match continued(line, self.escape) {
                Some(line) => (line, true),
                None => (line, false),
            };
            append(&mut text, line, number)?;
            piece = if goes_on { self.continuation() } else { None };
        }
        if text.contains('\0') {
            return Err(at(number, "contains a NUL byte, which no program can be given"));
        }
        let text = text.trim();
        let end = text.find(is_blank).unwrap_or(text.len());
        let (keyword, rest) = text.split_at(end);
        let mut line = Line {
            number,
            keyword: keyword.to_lowercase(),
            rest: rest.trim().to_owned(),
            documents: Vec::new(),
        };
        if matches!(line.keyword.as_str(), "run" | "copy" | "add") {
            self.documents(&mut line)?;
        }
        Ok(Some(line))
    }

    /// The next line that is no comment and not empty.
    fn continuation(&mut self) -> Option<&'a str> {
        loop {
            let (_, line) = self.line()?;
            let trimmed = line.trim_start();
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                return Some(line);
            }
        }
    }

    fn documents(&mut self, line: &mut Line) -> Result<()> {
        let markers: Vec<Document> = words::split(&line.rest, self.escape)
            .into_iter()
            .filter_map(|word| marker(word, self.escape))
            .collect();
        if let (Some(marker), false) = (markers.first(), line.keyword == "run") {
            let keyword = line.keyword.to_uppercase();
            let remedy = "write the file into the build context, or use RUN with a here-document";
            let text = format!("{keyword} {}: here-documents are for RUN only here: {remedy}", marker.word);
            return Err(unsupported(line.number, text));
        }
        if markers.len() > MAX_DOCUMENTS {
            return Err(at(line.number, format!("RUN: more than {MAX_DOCUMENTS} here-documents")));
        }
        let mut bytes = line.rest.len();
        for mut document in markers {
            loop {
                let Some((_, text)) = self.line() else {
                    let text = format!("RUN {}: no line {:?} ends it", document.word, document.name);
                    return Err(at(line.number, text));
                };
                let end = if document.strips_tabs { text.trim_start_matches('\t') } else { text };
                if end == document.name {
                    break;
                }
                bytes += text.len() + 1;
                if bytes > MAX_LINE_BYTES || text.contains('\0') {
                    return Err(too_long(line.number));
                }
                document.text.push_str(text);
                document.text.push('\n');
            }
            line.documents.push(document);
        }
        Ok(())
    }
}

fn append(text: &mut String, line: &str, number: usize) -> Result<()> {
    text.push_str(line);
    if text.len() > MAX_LINE_BYTES { Err(too_long(number)) } else { Ok(()) }
}

fn too_long(number: usize) -> Error {
    let text = format!(
        "is longer than {MAX_LINE_BYTES} bytes (with its continuation lines), or has a NUL byte: \
         put a long script into a file and COPY it"
    );
    at(number, text)
}

/// White space within a line, as docker splits at it.
pub(super) fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

/// The line without the escape character that joins the next one to it.
fn continued(line: &str, escape: char) -> Option<&str> {
    let rest = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!rest.ends_with(escape)).then_some(rest)
}

/// What the directives before the first instruction, comment or empty line say.
fn escape_character(text: &str) -> Result<char> {
    let (mut escape, mut syntax) = (None, None);
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = directive(line.trim_start()) else { break };
        let number = index + 1;
        let earlier = match name.to_ascii_lowercase().as_str() {
            "escape" => match value {
                "\\" | "`" => escape.replace(value),
                _ => return Err(at(number, format!("# escape={value}: must be \\ or `"))),
            },
            "syntax" => {
                check_syntax(number, value)?;
                syntax.replace(value)
            }
            // docker's own checks of style.
            "check" => None,
            _ => break,
        };
        if earlier.is_some() {
            return Err(at(number, format!("# {name}={value}: is the second one, remove one of them")));
        }
    }
    Ok(escape.and_then(|escape| escape.chars().next()).unwrap_or('\\'))
}

/// `# name=value`.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then_some((name, value))
}

/// Docker lets a directive name an image that translates the file. There is one language here.
fn check_syntax(number: usize, value: &str) -> Result<()> {
    let image = value.strip_prefix("docker.io/").unwrap_or(value);
    let name = image.split([':', '@']).next().unwrap_or_default();
    if matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream") {
        return Ok(());
    }
    let text = format!("# syntax={value}: only docker/dockerfile's syntax is supported: remove the line");
    Err(unsupported(number, text))
}

/// A word that begins a here-document: `<<NAME` or `<<-NAME`, with a descriptor's number before it or none.
fn marker(word: String, escape: char) -> Option<Document> {
    let behind = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strips_tabs, name) = match behind.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, behind),
    };
    let name: String = name.chars().filter(|c| !matches!(c, '\'' | '"') && *c != escape).collect();
    if name.is_empty() || behind.contains('<') {
        return None;
    }
    Some(Document { word, name, strips_tabs, text: String::new() })
}
