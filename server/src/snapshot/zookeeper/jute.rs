//! ZooKeeper's record encoding, read from a slice.

use std::borrow::Cow;

use quorate_proto::{Acl, Id, Perms};

use super::super::fault::Fault;

/// Reads fields from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        self.array::<1>().map(|[byte]| byte != 0)
    }

    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        self.array().map(i64::from_be_bytes)
    }

    /// `None` is null.
    pub(super) fn buffer(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, Fault> {
        let declared = self.int()?;
        if declared == -1 {
            return Ok(None);
        }
        let len = usize::try_from(declared).map_err(|_| Fault::BadLength {
            field,
            declared: declared.into(),
            limit: self.rest.len() as u64,
        })?;
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(Some(head))
    }

    /// Null reads as empty; bytes that are not UTF-8 become U+FFFD, as in ZooKeeper.
    pub(super) fn string(&mut self, field: &'static str) -> Result<Cow<'a, str>, Fault> {
        Ok(self
            .buffer(field)?
            .map_or(Cow::Borrowed(""), String::from_utf8_lossy))
    }

    /// The count of a vector, which cannot exceed what is left, as every element has
    /// `least_bytes`. Null counts as empty.
    pub(super) fn count(
        &mut self,
        field: &'static str,
        least_bytes: usize,
    ) -> Result<usize, Fault> {
        let declared = self.int()?;
        let limit = self.rest.len() / least_bytes.max(1);
        if declared == -1 {
            return Ok(0);
        }
        usize::try_from(declared)
            .ok()
            .filter(|&count| count <= limit)
            .ok_or(Fault::BadLength {
                field,
                declared: declared.into(),
                limit: limit as u64,
            })
    }

    pub(super) fn acl(&mut self) -> Result<Vec<Acl>, Fault> {
        let count = self.count("an access control list", 12)?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            let perms = Perms(self.int()?);
            let scheme = self.string("a scheme")?.into_owned();
            let id = self.string("an id")?.into_owned();
            list.push(Acl {
                perms,
                id: Id { scheme, id },
            });
        }
        Ok(list)
    }
}
