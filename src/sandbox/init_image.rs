//! The image that has init: a file in memory that all sandboxes of the process share.

use std::io;
use std::os::fd::OwnedFd;

use crate::error::{Context, Result};
use crate::image::erofs::{Attributes, Content, Tree, Writer};
use crate::sys::memfd;

/// Makes the image of this program.
pub(super) fn make(program: &[u8]) -> Result<OwnedFd> {
    bytes(program).and_then(|image| memfd::sealed(&image)).context("init's image in memory")
}

/// An image with one file, `init`.
fn bytes(program: &[u8]) -> io::Result<Vec<u8>> {
    let roots = |mode| Attributes { mode, ..Attributes::default() };
    let mut writer = Writer::new(Vec::new());
    let mut tree = Tree::new(roots(0o755));
    let data = writer.file(program)?;
    tree.insert(Tree::ROOT, b"init", roots(0o555), Content::File(data));
    writer.finish(&tree).map(|(image, _)| image)
}
