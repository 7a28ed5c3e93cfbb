//! Archives that tests make.

/// An archive that is put together block by block.
#[derive(Clone, Default)]
pub(super) struct Tar(Vec<u8>);

pub(super) fn octal(block: &mut [u8], at: usize, length: usize, value: u64) {
    let text = format!("{value:0width$o}", width = length - 1);
    block[at..at + length - 1].copy_from_slice(text.as_bytes());
}

impl Tar {
    /// A header with its checksum, changed before that.
    pub(super) fn header(mut self, name: &[u8], kind: u8, size: u64, change: impl FnOnce(&mut [u8])) -> Self {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name);
        octal(&mut block, 100, 8, if kind == b'5' { 0o755 } else { 0o644 });
        octal(&mut block, 108, 8, 0);
        octal(&mut block, 116, 8, 0);
        octal(&mut block, 124, 12, size);
        octal(&mut block, 136, 12, 1_700_000_000);
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut block);
        block[148..156].fill(b' ');
        let sum = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block, 148, 7, sum);
        block[154] = 0;
        self.0.extend(block);
        self
    }

    pub(super) fn content(mut self, data: &[u8]) -> Self {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        self.header(name.as_bytes(), b'0', data.len() as u64, |_| ()).content(data)
    }

    pub(super) fn directory(self, name: &str) -> Self {
        self.header(name.as_bytes(), b'5', 0, |_| ())
    }

    pub(super) fn link(self, name: &str, kind: u8, target: &str) -> Self {
        self.header(name.as_bytes(), kind, 0, |block| {
            block[157..157 + target.len()].copy_from_slice(target.as_bytes())
        })
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(name, b'2', target)
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(name, b'1', target)
    }

    pub(super) fn device(self, name: &str, major: u64, minor: u64) -> Self {
        self.header(name.as_bytes(), b'3', 0, |block| {
            octal(block, 329, 8, major);
            octal(block, 337, 8, minor);
        })
    }

    pub(super) fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..10).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
            content.extend(format!("{} {key}=", length.unwrap()).as_bytes());
            content.extend(*value);
            content.push(b'\n');
        }
        self.header(b"pax", kind, content.len() as u64, |_| ()).content(&content)
    }

    pub(super) fn long(self, kind: u8, value: &[u8]) -> Self {
        self.header(b"././@LongLink", kind, value.len() as u64, |_| ()).content(value)
    }

    /// The bytes without an end.
    pub(super) fn cut(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
