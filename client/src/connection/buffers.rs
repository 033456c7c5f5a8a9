//! Receive buffers for large frames, used again once all slices of them are gone.
//!
//! A fresh buffer of some MiB costs a page fault for every 4 KiB, which is more than copying the
//! bytes into it. The pool keeps one handle on each buffer that it gave out; when that handle is the
//! only one left, nobody can see the bytes any more and the buffer serves the next frame.

use bytes::{Bytes, BytesMut};

/// Most buffers kept; a reader that prefetches has two or three in use.
const BUFFERS_MAX: usize = 6;
/// Capacities are rounded up to this, so that frames of similar size share buffers.
const ROUND_BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct ReceiveBuffers {
    lent: Vec<Lent>,
}

#[derive(Debug)]
struct Lent {
    frame: Bytes,
    capacity: usize,
}

impl ReceiveBuffers {
    /// An empty buffer with room for `bytes`.
    pub(super) fn take(&mut self, bytes: usize) -> BytesMut {
        let fits = |lent: &Lent| lent.capacity >= bytes && lent.frame.is_unique();
        if let Some(index) = self.lent.iter().position(fits) {
            let lent = self.lent.remove(index);
            if let Ok(mut buffer) = lent.frame.try_into_mut() {
                buffer.clear();
                if buffer.capacity() >= bytes {
                    return buffer;
                }
            }
        }
        BytesMut::with_capacity(bytes.next_multiple_of(ROUND_BYTES))
    }

    /// Makes a frame of a filled buffer and remembers it.
    pub(super) fn freeze(&mut self, buffer: BytesMut) -> Bytes {
        let capacity = buffer.capacity();
        let frame = buffer.freeze();
        if self.lent.len() == BUFFERS_MAX {
            // The oldest: if it is still read, it is freed by its last reader.
            self.lent.remove(0);
        }
        self.lent.push(Lent {
            frame: frame.clone(),
            capacity,
        });
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_only_when_nobody_reads_it() {
        let mut buffers = ReceiveBuffers::default();
        let mut first = buffers.take(100_000);
        first.extend_from_slice(&[7; 100_000]);
        let address = first.as_ptr();
        let frame = buffers.freeze(first);
        let slice = frame.slice(10..20);
        drop(frame);

        let mut second = buffers.take(100_000);
        assert_ne!(second.as_ptr(), address, "still read");
        second.extend_from_slice(&[8; 10]);
        assert_eq!(&slice[..], &[7; 10]);

        drop(slice);
        let third = buffers.take(200_000);
        assert_eq!(third.as_ptr(), address, "used again, whole capacity");
        assert!(third.is_empty());
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut buffers = ReceiveBuffers::default();
        let frames: Vec<Bytes> = (0..20)
            .map(|_| {
                let buffer = buffers.take(1000);
                buffers.freeze(buffer)
            })
            .collect();
        assert_eq!(buffers.lent.len(), BUFFERS_MAX);
        drop(frames);
    }
}
