//! The values that are sent.

use bytes::Bytes;

use crate::bench::peer::patterned_bytes;

/// Distinct values; enough that no codec finds the same record twice in a batch by chance alone.
const POOL_BYTES: usize = 1 << 20;
/// Every fourth byte is noise and the others are text, about what logs and events compress to.
const NOISE_EVERY: usize = 4;

/// Values of one length, cut from one pool.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    pool: Bytes,
    length: usize,
    next: usize,
}

impl Payload {
    /// Values of `length` bytes.
    pub(crate) fn new(length: usize) -> Payload {
        let mut pool = patterned_bytes(POOL_BYTES.max(2 * length));
        let text = b"the quick brown fox jumps over the lazy dog 0123456789 ";
        for (at, byte) in pool.iter_mut().enumerate() {
            if at % NOISE_EVERY != 0 {
                *byte = text[at % text.len()];
            }
        }
        Payload {
            pool: Bytes::from(pool),
            length,
            next: 0,
        }
    }

    /// The next value.
    pub(crate) fn next(&mut self) -> Bytes {
        let at = self.advance();
        self.pool.slice(at..at + self.length)
    }

    /// The next `count` values, borrowed.
    pub(crate) fn next_many(&mut self, count: usize) -> impl ExactSizeIterator<Item = &[u8]> {
        let (first, length, ends) = (self.next, self.length, self.pool.len() - self.length + 1);
        self.next = (first + count * length) % ends;
        let pool = &self.pool;
        (0..count).map(move |index| {
            let at = (first + index * length) % ends;
            &pool[at..at + length]
        })
    }

    fn advance(&mut self) -> usize {
        let at = self.next;
        self.next = (at + self.length) % (self.pool.len() - self.length + 1);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::Payload;

    #[test]
    fn values_have_the_length_asked_for_however_long() {
        for length in [1, 100, 1 << 20, 3 << 20] {
            let mut payload = Payload::new(length);
            assert!(payload.next_many(5).all(|value| value.len() == length));
            assert_eq!(payload.next().len(), length);
        }
    }
}
