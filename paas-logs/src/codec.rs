//! Numbers and bytes as they stand in files.

pub(crate) mod batch;
pub(crate) mod line;

/// Bytes that are not what they should be, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage(pub(crate) &'static str);

/// What is read, or why it cannot be.
pub(crate) type Decoded<T> = std::result::Result<T, Damage>;

/// Seven bits a byte, the lowest first; all bytes but the last have the eighth bit.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number of either sign: 0, -1, 1, -2, ... stand as 0, 1, 2, 3, ...
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, (number << 1 ^ number >> 63) as u64);
}

/// How many there are, and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what was put, in the same order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn number(&mut self) -> Decoded<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first().ok_or(Damage("a number is cut off"))?;
            self.0 = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damage("a number is too long"))
    }

    pub(crate) fn signed(&mut self) -> Decoded<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number that is at most as large as the largest that the type has.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Decoded<T> {
        T::try_from(self.number()?).map_err(|_| Damage("a number is too large"))
    }

    /// How many of something follow, of which each takes a byte at least.
    pub(crate) fn count(&mut self) -> Decoded<usize> {
        self.count_of(1)
    }

    /// How many of something follow, of which each takes so many bytes at least: room can be made for all of them.
    pub(crate) fn count_of(&mut self, least: usize) -> Decoded<usize> {
        let count: usize = self.small()?;
        if count > self.0.len() / least { Err(Damage("there is less than is said")) } else { Ok(count) }
    }

    pub(crate) fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    pub(crate) fn take(&mut self, length: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damage("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Damage("it is cut off"))
    }

    pub(crate) fn u32(&mut self) -> Decoded<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Decoded<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    /// Nothing is left.
    pub(crate) fn end(self) -> Decoded<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Damage("there is more than is said")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read(number: u64, signed: i64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_signed(&mut out, signed);
            put_bytes(&mut out, &bytes);
            let mut reader = Reader(&out);
            prop_assert_eq!(reader.number(), Ok(number));
            prop_assert_eq!(reader.signed(), Ok(signed));
            prop_assert_eq!(reader.bytes(), Ok(&bytes[..]));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut reader = Reader(&bytes);
            while reader.number().is_ok() && reader.bytes().is_ok() && reader.u32().is_ok() {}
        }
    }
}
