//! The four-letter words themselves. Pure.

/// A word that a client may send instead of a connect request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Conf,
    Cons,
    Crst,
    Dirs,
    Dump,
    Envi,
    Gtmk,
    Hash,
    Isro,
    Mntr,
    Ruok,
    Srst,
    Srvr,
    Stat,
    /// Followed by eight more bytes; see [`Word::with_argument`].
    Stmk {
        mask: i64,
    },
    Wchc,
    Wchp,
    Wchs,
    /// What `telnet` sends when it is interrupted: the connection closes without an answer.
    TelnetClose,
}

impl Word {
    /// Every word with a name.
    pub(crate) const ALL: [Word; 18] = [
        Word::Conf,
        Word::Cons,
        Word::Crst,
        Word::Dirs,
        Word::Dump,
        Word::Envi,
        Word::Gtmk,
        Word::Hash,
        Word::Isro,
        Word::Mntr,
        Word::Ruok,
        Word::Srst,
        Word::Srvr,
        Word::Stat,
        Word::Stmk { mask: 0 },
        Word::Wchc,
        Word::Wchp,
        Word::Wchs,
    ];

    /// The word that the first four bytes of a connection spell. Anything else is a length.
    pub(crate) fn from_bytes(bytes: [u8; 4]) -> Option<Word> {
        if bytes == [0xff, 0xf4, 0xff, 0xfd] {
            return Some(Word::TelnetClose);
        }
        Word::ALL
            .into_iter()
            .find(|word| word.name().as_bytes() == bytes)
    }

    /// As it is written; empty for [`Word::TelnetClose`].
    pub(crate) fn name(self) -> &'static str {
        match self {
            Word::Conf => "conf",
            Word::Cons => "cons",
            Word::Crst => "crst",
            Word::Dirs => "dirs",
            Word::Dump => "dump",
            Word::Envi => "envi",
            Word::Gtmk => "gtmk",
            Word::Hash => "hash",
            Word::Isro => "isro",
            Word::Mntr => "mntr",
            Word::Ruok => "ruok",
            Word::Srst => "srst",
            Word::Srvr => "srvr",
            Word::Stat => "stat",
            Word::Stmk { .. } => "stmk",
            Word::Wchc => "wchc",
            Word::Wchp => "wchp",
            Word::Wchs => "wchs",
            Word::TelnetClose => "",
        }
    }

    /// How many bytes belong to the word after its four letters.
    pub(crate) fn argument_len(self) -> usize {
        match self {
            Word::Stmk { .. } => 8,
            _ => 0,
        }
    }

    /// The word with its argument; words without one stay as they are.
    pub(crate) fn with_argument(self, argument: [u8; 8]) -> Word {
        match self {
            Word::Stmk { .. } => Word::Stmk {
                mask: i64::from_be_bytes(argument),
            },
            other => other,
        }
    }

    /// Whether the answer tells of the tree, sessions or connections, which a server that is not
    /// serving does not do.
    pub(crate) fn needs_service(self) -> bool {
        !matches!(
            self,
            Word::Envi
                | Word::Gtmk
                | Word::Stmk { .. }
                | Word::Isro
                | Word::Ruok
                | Word::TelnetClose
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_by_its_letters_alone() {
        for word in Word::ALL {
            let bytes: [u8; 4] = word.name().as_bytes().try_into().unwrap();
            assert_eq!(Word::from_bytes(bytes), Some(word));
        }
        assert_eq!(Word::from_bytes(*b"RUOK"), None);
        assert_eq!(Word::from_bytes(*b"kill"), None);
        assert_eq!(Word::from_bytes([0, 0, 0, 45]), None);
        assert_eq!(
            Word::from_bytes([0xff, 0xf4, 0xff, 0xfd]),
            Some(Word::TelnetClose)
        );
    }

    #[test]
    fn only_stmk_takes_more_bytes() {
        for word in Word::ALL {
            let takes = matches!(word, Word::Stmk { .. });
            assert_eq!(word.argument_len(), if takes { 8 } else { 0 });
        }
        assert_eq!(
            Word::Stmk { mask: 0 }.with_argument([0, 0, 0, 0, 0, 0, 1, 2]),
            Word::Stmk { mask: 258 }
        );
        assert_eq!(Word::Ruok.with_argument([1; 8]), Word::Ruok);
    }
}
