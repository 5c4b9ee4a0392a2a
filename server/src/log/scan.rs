//! Reads one segment from its start: frame after frame, then what kind of end that is.
//!
//! The rule: a frame is written only after the sync of the one before has returned. So behind an
//! invalid frame there is a valid one only if the invalid one was whole once, and lost since.

use std::io;

use bytes::Bytes;

use super::format::{
    FRAME_HEADER, FRAMES_START, FrameHeader, Salt, find_frame_magic, next_frame_offset,
};
use crate::disk::DiskFile;

/// Read at once.
const WINDOW: usize = 256 * 1024;

/// Walks the frames of one segment.
pub(super) struct Scan<'a> {
    file: &'a dyn DiskFile,
    segment: u64,
    salt: Salt,
    file_len: u64,
    /// Where the next frame stands, or would stand.
    pub(super) offset: u64,
    /// Its number.
    pub(super) number: u64,
    window: Bytes,
    window_start: u64,
}

/// A valid frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// Where its header stands.
    pub(super) offset: u64,
    /// Its records.
    pub(super) body: Bytes,
}

/// What stands where the next frame would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing of this segment.
    Clean,
    /// A frame that was begun and never finished.
    Torn,
    /// A frame that was whole, for a later one stands at this offset.
    Damaged { later: u64 },
}

impl<'a> Scan<'a> {
    /// Starts behind the header.
    pub(super) fn new(
        file: &'a dyn DiskFile,
        segment: u64,
        salt: Salt,
        first_frame: u64,
    ) -> io::Result<Scan<'a>> {
        Ok(Scan {
            file,
            segment,
            salt,
            file_len: file.len()?,
            offset: FRAMES_START,
            number: first_frame,
            window: Bytes::new(),
            window_start: 0,
        })
    }

    /// The next valid frame; `None` at the end, of whatever kind.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let Some(header) = self.bytes(self.offset, FRAME_HEADER)? else {
            return Ok(None);
        };
        let Some(header) = FrameHeader::decode(&header, self.salt) else {
            return Ok(None);
        };
        if (header.segment, header.number) != (self.segment, self.number) {
            return Ok(None);
        }
        // The header's checksum held, and `bytes` asks the file's length before it allocates.
        let Ok(len) = usize::try_from(header.body_len) else {
            return Ok(None);
        };
        let offset = self.offset;
        let Some(body) = self.bytes(offset + FRAME_HEADER as u64, len)? else {
            return Ok(None);
        };
        if !header.fits(&body, self.salt) {
            return Ok(None);
        }
        self.offset = next_frame_offset(offset, (FRAME_HEADER + len) as u64);
        self.number += 1;
        Ok(Some(Frame { offset, body }))
    }

    /// After [`Scan::next`] gave `None`: why. Reads the file to its end.
    pub(super) fn end(&mut self) -> io::Result<End> {
        let mut at = self.offset;
        while at < self.file_len {
            let left = usize::try_from(self.file_len - at).unwrap_or(usize::MAX);
            let Some(chunk) = self.bytes(at, left.min(WINDOW))? else {
                break;
            };
            for start in find_frame_magic(&chunk) {
                let start = at + start as u64;
                let Some(header) = self.bytes(start, FRAME_HEADER)? else {
                    continue;
                };
                let later = FrameHeader::decode(&header, self.salt)
                    .is_some_and(|h| h.segment == self.segment && h.number > self.number);
                if later {
                    return Ok(End::Damaged { later: start });
                }
            }
            at += chunk.len() as u64;
        }
        let begun = self.bytes(self.offset, FRAME_HEADER)?;
        let torn = begun.is_some_and(|b| FrameHeader::names(&b, self.segment, self.number));
        Ok(if torn { End::Torn } else { End::Clean })
    }

    /// Bytes of the file; `None` if it ends before.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        if offset
            .checked_add(len as u64)
            .is_none_or(|end| end > self.file_len)
        {
            return Ok(None);
        }
        let skip = offset.checked_sub(self.window_start).map(usize::try_from);
        if let Some(Ok(skip)) = skip
            && skip
                .checked_add(len)
                .is_some_and(|end| end <= self.window.len())
        {
            return Ok(Some(self.window.slice(skip..skip + len)));
        }
        let left = usize::try_from(self.file_len - offset).unwrap_or(usize::MAX);
        let mut window = vec![0; left.min(WINDOW.max(len))];
        read_exact(self.file, &mut window, offset)?;
        self.window = Bytes::from(window);
        self.window_start = offset;
        Ok(Some(self.window.slice(..len)))
    }
}

/// Fills the buffer, or fails.
pub(super) fn read_exact(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}
