//! What stands in a counter's znode.

use std::fmt;

use bytes::Bytes;

/// A value and its bytes in a znode.
///
/// | type | bytes | shared with |
/// | --- | --- | --- |
/// | `i32` | 4, the highest first | Curator `SharedCount`, `DistributedAtomicInteger`; kazoo `Counter(support_curator=True)` |
/// | `i64` | 8, the highest first | Curator `DistributedAtomicLong` |
/// | [`Bytes`] | as they are | Curator `SharedValue`, `DistributedAtomicValue` |
/// | [`Ascii<i64>`], [`Ascii<f64>`] | Python's `repr` | kazoo `Counter` |
///
/// ```
/// use quorate_recipes::counter::{Ascii, Stored};
///
/// assert_eq!(&258_i32.store()[..], [0, 0, 1, 2]);
/// assert_eq!(&Ascii(2.5).store()[..], b"2.5");
/// assert_eq!(i32::load(b""), Some(0));
/// assert_eq!(i32::load(b"123"), None);
/// ```
pub trait Stored: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The bytes.
    fn store(&self) -> Bytes;

    /// The value, if the bytes are one.
    fn load(data: &[u8]) -> Option<Self>;

    /// What a znode counts for that does not exist.
    fn absent() -> Self;
}

/// A value that can be counted up and down.
pub trait Addable: Stored {
    /// The sum, if the type can hold it.
    fn plus(&self, other: &Self) -> Option<Self>;

    /// The difference, if the type can hold it.
    fn minus(&self, other: &Self) -> Option<Self>;

    /// One.
    fn one() -> Self;
}

/// A number as kazoo's `Counter` writes it: the text that Python's `repr` gives.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a wrapper to be opened")]
pub struct Ascii<N>(pub N);

macro_rules! big_endian {
    ($number:ty) => {
        impl Stored for $number {
            fn store(&self) -> Bytes {
                Bytes::copy_from_slice(&self.to_be_bytes())
            }

            fn load(data: &[u8]) -> Option<$number> {
                match data {
                    // As Curator reads it.
                    [] => Some(0),
                    data => Some(<$number>::from_be_bytes(data.try_into().ok()?)),
                }
            }

            fn absent() -> $number {
                0
            }
        }

        impl Addable for $number {
            fn plus(&self, other: &$number) -> Option<$number> {
                self.checked_add(*other)
            }

            fn minus(&self, other: &$number) -> Option<$number> {
                self.checked_sub(*other)
            }

            fn one() -> $number {
                1
            }
        }
    };
}

big_endian!(i32);
big_endian!(i64);

impl Stored for Bytes {
    fn store(&self) -> Bytes {
        self.clone()
    }

    fn load(data: &[u8]) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(data))
    }

    fn absent() -> Bytes {
        Bytes::new()
    }
}

impl Stored for Ascii<i64> {
    fn store(&self) -> Bytes {
        self.0.to_string().into()
    }

    fn load(data: &[u8]) -> Option<Ascii<i64>> {
        match text(data)? {
            "" => Some(Ascii(0)),
            text => text.parse().ok().map(Ascii),
        }
    }

    fn absent() -> Ascii<i64> {
        Ascii(0)
    }
}

impl Addable for Ascii<i64> {
    fn plus(&self, other: &Ascii<i64>) -> Option<Ascii<i64>> {
        self.0.checked_add(other.0).map(Ascii)
    }

    fn minus(&self, other: &Ascii<i64>) -> Option<Ascii<i64>> {
        self.0.checked_sub(other.0).map(Ascii)
    }

    fn one() -> Ascii<i64> {
        Ascii(1)
    }
}

impl Stored for Ascii<f64> {
    fn store(&self) -> Bytes {
        python_repr(self.0).into()
    }

    fn load(data: &[u8]) -> Option<Ascii<f64>> {
        match text(data)? {
            "" => Some(Ascii(0.0)),
            text => text.parse().ok().map(Ascii),
        }
    }

    fn absent() -> Ascii<f64> {
        Ascii(0.0)
    }
}

impl Addable for Ascii<f64> {
    fn plus(&self, other: &Ascii<f64>) -> Option<Ascii<f64>> {
        Some(Ascii(self.0 + other.0)).filter(|sum| sum.0.is_finite())
    }

    fn minus(&self, other: &Ascii<f64>) -> Option<Ascii<f64>> {
        Some(Ascii(self.0 - other.0)).filter(|difference| difference.0.is_finite())
    }

    fn one() -> Ascii<f64> {
        Ascii(1.0)
    }
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok().map(str::trim)
}

/// The shortest text that reads back as the same number, as Python writes it: with an exponent of
/// two digits at least, below 1e-4 and from 1e16 on.
fn python_repr(number: f64) -> String {
    let magnitude = number.abs();
    if !number.is_finite() || magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return match number {
            number if number.is_nan() => "nan".to_owned(),
            number => {
                let text = number.to_string();
                let is_whole = number.is_finite() && !text.contains('.');
                if is_whole { text + ".0" } else { text }
            }
        };
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_curators_bytes() {
        assert_eq!(&258_i32.store()[..], [0, 0, 1, 2]);
        assert_eq!(&300_i64.store()[..], [0, 0, 0, 0, 0, 0, 1, 0x2c]);
        assert_eq!(&(-1_i32).store()[..], [0xff; 4]);
        assert_eq!(i64::load(&[0, 0, 0, 0, 0, 0, 1, 0x2c]), Some(300));
    }

    #[test]
    fn numbers_of_another_width_are_refused_and_not_half_read() {
        assert_eq!(i64::load(&[0, 0, 1, 2]), None);
        assert_eq!(i32::load(&[0; 8]), None);
        assert_eq!(i32::load(b"3"), None);
        assert_eq!(Ascii::<i64>::load(&[0, 0, 1, 2]), None);
    }

    #[test]
    fn ascii_numbers_are_what_python_writes() {
        assert_eq!(&Ascii(3_i64).store()[..], b"3");
        for (number, text) in [
            (2.5, "2.5"),
            (3.0, "3.0"),
            (0.0, "0.0"),
            (-0.5, "-0.5"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e15, "1000000000000000.0"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(python_repr(number), text);
            let read = Ascii::<f64>::load(text.as_bytes()).unwrap();
            assert!(read.0.to_bits() == number.to_bits(), "{text}");
        }
    }
}
