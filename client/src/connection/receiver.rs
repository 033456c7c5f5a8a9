//! Cuts the byte stream of a connection into frames.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::AsyncReadExt;

use super::buffers::ReceiveBuffers;

/// Small frames are read many at a time into a buffer of this size.
const SMALL_BUFFER_BYTES: usize = 16 << 10;
/// Frames from here on get a buffer of their own and are read right into it.
const LARGE_FRAME_BYTES: usize = 8 << 10;
const LENGTH_BYTES: usize = 4;

/// Why no further frame comes.
#[derive(Debug, Error)]
pub(super) enum ReceiveError {
    #[error("closed by the peer")]
    Closed,
    #[error("closed by the peer in the middle of an answer")]
    Cut,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer announces a frame of {bytes} bytes; the limit is {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
}

/// Reads frames; keeps its progress across dropped calls.
#[derive(Debug)]
pub(super) struct Receiver {
    small: BytesMut,
    large: Option<LargeFrame>,
    buffers: ReceiveBuffers,
    frame_bytes_max: usize,
}

#[derive(Debug)]
struct LargeFrame {
    buffer: BytesMut,
    bytes: usize,
}

impl Receiver {
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self {
            small: BytesMut::with_capacity(SMALL_BUFFER_BYTES),
            large: None,
            buffers: ReceiveBuffers::default(),
            frame_bytes_max,
        }
    }

    /// The next frame without its length field, if it is already here.
    fn buffered(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        if let Some(large) = self
            .large
            .take_if(|large| large.buffer.len() == large.bytes)
        {
            return Ok(Some(self.buffers.freeze(large.buffer)));
        }
        if self.large.is_some() || self.small.len() < LENGTH_BYTES {
            return Ok(None);
        }
        let length = [self.small[0], self.small[1], self.small[2], self.small[3]];
        let bytes = u32::from_be_bytes(length) as usize;
        if bytes > self.frame_bytes_max {
            return Err(ReceiveError::TooLarge {
                bytes,
                bytes_max: self.frame_bytes_max,
            });
        }
        if self.small.len() >= LENGTH_BYTES + bytes {
            self.small.advance(LENGTH_BYTES);
            return Ok(Some(self.small.split_to(bytes).freeze()));
        }
        if bytes >= LARGE_FRAME_BYTES {
            self.small.advance(LENGTH_BYTES);
            let mut buffer = self.buffers.take(bytes);
            buffer.put_slice(&self.small);
            self.small.clear();
            self.large = Some(LargeFrame { buffer, bytes });
        }
        Ok(None)
    }

    /// Waits for the next frame, without its length field. `count` sees how many bytes came.
    ///
    /// Cancel safe: what was received stays.
    pub(super) async fn next_frame<S>(
        &mut self,
        socket: &mut S,
        mut count: impl FnMut(usize),
    ) -> Result<Bytes, ReceiveError>
    where
        S: AsyncReadExt + Unpin,
    {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            let received = match &mut self.large {
                Some(large) => {
                    let missing = large.bytes - large.buffer.len();
                    socket
                        .read_buf(&mut (&mut large.buffer).limit(missing))
                        .await?
                }
                None => {
                    self.small.reserve(SMALL_BUFFER_BYTES);
                    socket.read_buf(&mut self.small).await?
                }
            };
            if received == 0 {
                let between = self.large.is_none() && self.small.is_empty();
                return Err(if between {
                    ReceiveError::Closed
                } else {
                    ReceiveError::Cut
                });
            }
            count(received);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            stream.put_u32(u32::try_from(frame.len()).unwrap());
            stream.extend_from_slice(frame);
        }
        stream
    }

    #[tokio::test]
    async fn frames_of_any_size_come_whole_and_in_order() {
        let sizes = [
            0,
            1,
            100,
            LARGE_FRAME_BYTES - 1,
            LARGE_FRAME_BYTES,
            300_000,
            5,
            1 << 20,
            17,
        ];
        let frames: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(i, n)| vec![i as u8; *n])
            .collect();
        let stream = framed(&frames);
        // A pipe with little room hands out the stream in odd pieces.
        let (mut near, mut far) = tokio::io::duplex(4093);
        let sender = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut far, &stream)
                .await
                .unwrap();
        });
        let mut receiver = Receiver::new(2 << 20);
        let mut total = 0;
        for frame in &frames {
            let got = receiver
                .next_frame(&mut near, |n| total += n)
                .await
                .unwrap();
            assert!(got == frame[..]);
        }
        sender.await.unwrap();
        assert_eq!(total, frames.iter().map(|f| f.len() + 4).sum::<usize>());
        assert!(matches!(
            receiver.next_frame(&mut near, |_| ()).await,
            Err(ReceiveError::Closed)
        ));
    }

    #[tokio::test]
    async fn a_length_above_the_limit_is_refused_before_anything_is_reserved() {
        let mut input: &[u8] = &[0xff; 4];
        let mut receiver = Receiver::new(1 << 20);
        let got = receiver.next_frame(&mut input, |_| ()).await;
        assert!(matches!(got, Err(ReceiveError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn a_cut_frame_is_told_from_an_orderly_end() {
        let mut input: &[u8] = &[0, 0, 0, 9, 1, 2];
        let mut receiver = Receiver::new(1 << 20);
        assert!(matches!(
            receiver.next_frame(&mut input, |_| ()).await,
            Err(ReceiveError::Cut)
        ));
    }
}
