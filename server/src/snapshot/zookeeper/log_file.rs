//! Reads one file of ZooKeeper's transaction log.
//!
//! Where the records end is a question of judgement. ZooKeeper takes a record without its end
//! mark for the end of the log, wherever it stands, and so drops whatever follows a damaged
//! length. Here a broken record with a whole one behind it is damage.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::super::fault::{Fault, FileFault};
use super::source::FIELD_BYTES_MAX;

/// `ZKLG`.
const MAGIC: i32 = 0x5a4b_4c47;
const VERSION: i32 = 2;
const HEADER_BYTES: u64 = 16;
/// Checksum and length in front of a payload.
const FRAME_BYTES: u64 = 12;
/// Behind every payload.
const END_MARK: u8 = b'B';
/// How far behind a broken record we look for a whole one.
const SEARCH_BYTES: u64 = 64 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// How a file ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Behind a whole record.
    Clean,
    /// In a record that a crash cut short, at this offset.
    Torn(u64),
}

/// Whether a crash may have left a checksum that does not match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Position {
    /// The newest file: its last record may be half written.
    Last,
    /// ZooKeeper started again since, and would not have with a wrong checksum in it.
    Earlier,
}

/// A log file, read record by record.
pub(super) struct LogFile {
    path: PathBuf,
    input: BufReader<File>,
    len: u64,
    offset: u64,
    position: Position,
    payload: Vec<u8>,
    end: Option<End>,
}

impl LogFile {
    /// Opens a file for reading and checks its header.
    pub(super) fn open(path: &Path, position: Position) -> Result<LogFile, FileFault> {
        let at_start = |error| Fault::Io(error).at(path, 0);
        let file = File::open(path).map_err(at_start)?;
        let len = file.metadata().map_err(at_start)?.len();
        let mut log = LogFile {
            path: path.to_owned(),
            input: BufReader::with_capacity(BUFFER_BYTES, file),
            len,
            offset: 0,
            position,
            payload: Vec::new(),
            end: None,
        };
        log.read_header().map_err(|fault| fault.at(path, 0))?;
        Ok(log)
    }

    fn read_header(&mut self) -> Result<(), Fault> {
        // A crash right after the file was made: ZooKeeper deletes such a file.
        if self.len < HEADER_BYTES {
            self.end = Some(if self.len == 0 {
                End::Clean
            } else {
                End::Torn(0)
            });
            return Ok(());
        }
        let mut header = [0; 16];
        self.input.read_exact(&mut header)?;
        self.offset = HEADER_BYTES;
        if header == [0; 16] {
            self.end = Some(End::Torn(0));
            return Ok(());
        }
        let [m0, m1, m2, m3, v0, v1, v2, v3, ..] = header;
        if i32::from_be_bytes([m0, m1, m2, m3]) != MAGIC {
            return Err(Fault::WrongMagic {
                expected: "ZooKeeper transaction log",
            });
        }
        match i32::from_be_bytes([v0, v1, v2, v3]) {
            VERSION => Ok(()),
            found => Err(Fault::UnknownVersion {
                found: found.into(),
                known: VERSION.into(),
            }),
        }
    }

    /// The next record's offset and payload; `None` at the end, for which see [`LogFile::end`].
    pub(super) fn next(&mut self) -> Result<Option<(u64, &[u8])>, FileFault> {
        if self.end.is_some() {
            return Ok(None);
        }
        let start = self.offset;
        match self.read_record() {
            Ok(true) => Ok(Some((start, &self.payload))),
            Ok(false) => {
                self.end = Some(End::Clean);
                Ok(None)
            }
            Err(fault) => {
                self.judge(fault, start)
                    .map_err(|fault| fault.at(&self.path, start))?;
                self.end = Some(End::Torn(start));
                Ok(None)
            }
        }
    }

    /// How the file ended; [`End::Clean`] before it did.
    pub(super) fn end(&self) -> End {
        self.end.unwrap_or(End::Clean)
    }

    /// Reads a record into `payload`; false where the records end.
    fn read_record(&mut self) -> Result<bool, Fault> {
        let left = self.len.saturating_sub(self.offset);
        if left < FRAME_BYTES {
            let mut rest = Vec::new();
            (&mut self.input).take(left).read_to_end(&mut rest)?;
            return if rest.iter().all(|&byte| byte == 0) {
                Ok(false)
            } else {
                Err(Fault::Truncated)
            };
        }
        let mut frame = [0; 12];
        self.input.read_exact(&mut frame).map_err(ended)?;
        let (stored, declared) = split_frame(&frame);
        // ZooKeeper fills the file with zeros ahead of the records.
        if stored == 0 && declared == 0 {
            return Ok(false);
        }
        let limit = FIELD_BYTES_MAX.min(left);
        let payload_len = u64::try_from(declared)
            .ok()
            .filter(|&len| len <= FIELD_BYTES_MAX)
            .ok_or(Fault::BadLength {
                field: "a record",
                declared: declared.into(),
                limit,
            })?;
        if left < FRAME_BYTES + payload_len + 1 {
            return Err(Fault::Truncated);
        }
        self.payload.clear();
        (&mut self.input)
            .take(payload_len)
            .read_to_end(&mut self.payload)?;
        let mut mark = [0];
        self.input.read_exact(&mut mark).map_err(ended)?;
        let computed = checksum(&self.payload);
        if mark != [END_MARK] {
            return Err(Fault::Malformed("a record without its end mark"));
        }
        if stored != computed {
            return Err(Fault::Checksum { stored, computed });
        }
        self.offset += FRAME_BYTES + payload_len + 1;
        Ok(true)
    }

    /// Whether a record that cannot be read is where a crash cut the log short.
    fn judge(&mut self, fault: Fault, start: u64) -> Result<(), Fault> {
        if let Fault::Io(error) = fault {
            return Err(Fault::Io(error));
        }
        if let Some(next) = self.whole_record_after(start)? {
            return Err(Fault::Hole { next });
        }
        match (fault, self.position) {
            // What ZooKeeper itself passes over.
            (Fault::Truncated | Fault::Malformed(_), _)
            | (Fault::Checksum { .. }, Position::Last) => Ok(()),
            (fault, _) => Err(fault),
        }
    }

    /// The offset of a record behind `start` that is whole, if there is one.
    fn whole_record_after(&mut self, start: u64) -> Result<Option<u64>, Fault> {
        self.input.seek(SeekFrom::Start(start + 1))?;
        let mut bytes = Vec::new();
        (&mut self.input)
            .take(SEARCH_BYTES)
            .read_to_end(&mut bytes)?;
        let mut rest = bytes.as_slice();
        let mut offset = start + 1;
        while let Some((frame, behind)) = rest.split_first_chunk::<12>() {
            let (stored, declared) = split_frame(frame);
            let whole = stored != 0
                && u32::try_from(stored).is_ok()
                && usize::try_from(declared).is_ok_and(|len| {
                    len > 0
                        && behind.get(len) == Some(&END_MARK)
                        && behind
                            .get(..len)
                            .is_some_and(|payload| checksum(payload) == stored)
                });
            if whole {
                return Ok(Some(offset));
            }
            rest = rest.get(1..).unwrap_or_default();
            offset += 1;
        }
        Ok(None)
    }
}

fn split_frame(frame: &[u8; 12]) -> (u64, i32) {
    let [c0, c1, c2, c3, c4, c5, c6, c7, l0, l1, l2, l3] = *frame;
    (
        u64::from_be_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
        i32::from_be_bytes([l0, l1, l2, l3]),
    )
}

fn checksum(payload: &[u8]) -> u64 {
    u64::from(simd_adler32::adler32(&payload))
}

fn ended(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::Truncated,
        _ => Fault::Io(error),
    }
}
