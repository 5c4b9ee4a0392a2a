//! Snapshots as ZooKeeper compresses them: by the last part of the file's name.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The head of a stream of snappy blocks: magic, version, least compatible version.
const SNAPPY_HEAD: [u8; 16] = [
    0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
];
/// The largest block, before and after; writers use 32 KiB.
const SNAPPY_BLOCK_MAX: usize = 16 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// How a file is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Snappy,
}

impl Compression {
    /// By the file's name, as ZooKeeper does it.
    pub(super) fn of(name: &str) -> Compression {
        match name.rsplit('.').next() {
            Some("gz") => Compression::Gzip,
            Some("snappy") => Compression::Snappy,
            _ => Compression::Plain,
        }
    }
}

/// Opens a file for reading its content.
pub(super) fn open(path: &Path, compression: Compression) -> io::Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    Ok(match compression {
        Compression::Plain => Box::new(file),
        Compression::Gzip => Box::new(BufReader::with_capacity(
            BUFFER_BYTES,
            flate2::bufread::MultiGzDecoder::new(file),
        )),
        Compression::Snappy => Box::new(SnappyBlocks::new(file)?),
    })
}

/// Blocks of raw snappy, each behind its length.
pub(super) struct SnappyBlocks<R> {
    inner: R,
    decoder: snap::raw::Decoder,
    compressed: Vec<u8>,
    block: Vec<u8>,
    used: usize,
}

impl<R: Read> SnappyBlocks<R> {
    /// Reads and checks the head.
    pub(super) fn new(mut inner: R) -> io::Result<SnappyBlocks<R>> {
        let mut head = [0; SNAPPY_HEAD.len()];
        inner.read_exact(&mut head)?;
        if head != SNAPPY_HEAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a stream of snappy blocks",
            ));
        }
        Ok(SnappyBlocks {
            inner,
            decoder: snap::raw::Decoder::new(),
            compressed: Vec::new(),
            block: Vec::new(),
            used: 0,
        })
    }

    /// Fills `block`; false at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut head = Vec::new();
        (&mut self.inner).take(4).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(false);
        }
        let head: [u8; 4] = head.try_into().map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let len = usize::try_from(i32::from_be_bytes(head))
            .ok()
            .filter(|&len| len <= SNAPPY_BLOCK_MAX)
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "length of a snappy block")
            })?;
        self.compressed.clear();
        let read = (&mut self.inner)
            .take(len as u64)
            .read_to_end(&mut self.compressed)?;
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let plain_len = snap::raw::decompress_len(&self.compressed).map_err(invalid)?;
        if plain_len > SNAPPY_BLOCK_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "length of a snappy block",
            ));
        }
        self.block.resize(plain_len, 0);
        self.decoder
            .decompress(&self.compressed, &mut self.block)
            .map_err(invalid)?;
        self.used = 0;
        Ok(true)
    }
}

fn invalid(error: snap::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<R: Read> Read for SnappyBlocks<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.used == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let read = self.block.get(self.used..).unwrap_or_default().read(buf)?;
        self.used += read;
        Ok(read)
    }
}
