//! The [`Wire`] form of numbers, identifiers, strings, options and arrays.

use bytes::Bytes;

use super::{ApiVersion, DecodeError, Decoder, Encoder, Wire};
use crate::ids::{
    BrokerEpoch, ClusterId, DirectoryId, IncarnationId, LeaderEpoch, NodeId, Offset, PartitionId,
    ProducerEpoch, ProducerId, Timestamp, TopicId, TopicName,
};

macro_rules! wire_integer {
    ($($ty:ty),*) => {$(
        impl Wire for $ty {
            const SIZE_MIN: usize = size_of::<$ty>();
            fn encode(&self, out: &mut Encoder, _: ApiVersion) {
                out.put_raw(&self.to_be_bytes());
            }
            fn decode(input: &mut Decoder, _: ApiVersion) -> Result<Self, DecodeError> {
                input.take_array(stringify!($ty)).map(<$ty>::from_be_bytes)
            }
        }
    )*};
}
wire_integer!(u8, u16, u32, u64, i64);

macro_rules! wire_number_id {
    ($($ty:ty: $inner:ty),* $(,)?) => {$(
        impl Wire for $ty {
            const SIZE_MIN: usize = size_of::<$inner>();
            fn encode(&self, out: &mut Encoder, version: ApiVersion) {
                self.get().encode(out, version);
            }
            fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError> {
                <$inner>::decode(input, version).map(Self::new)
            }
        }
    )*};
}
wire_number_id!(
    LeaderEpoch: u32,
    NodeId: u32,
    PartitionId: u32,
    BrokerEpoch: u64,
    ProducerId: u64,
    ProducerEpoch: u16,
);

impl Wire for Offset {
    const SIZE_MIN: usize = 8;
    fn encode(&self, out: &mut Encoder, version: ApiVersion) {
        self.get().encode(out, version);
    }
    fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError> {
        let value = u64::decode(input, version)?;
        if value > Self::MAX.get() {
            return Err(DecodeError::Invalid {
                what: "offset",
                value,
            });
        }
        Ok(Self::new(value))
    }
}

impl Wire for Timestamp {
    const SIZE_MIN: usize = 8;
    fn encode(&self, out: &mut Encoder, version: ApiVersion) {
        self.millis().encode(out, version);
    }
    fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError> {
        i64::decode(input, version).map(Self::from_millis)
    }
}

macro_rules! wire_uuid {
    ($($ty:ty),*) => {$(
        impl Wire for $ty {
            const SIZE_MIN: usize = 16;
            fn encode(&self, out: &mut Encoder, _: ApiVersion) {
                out.put_raw(&self.into_bytes());
            }
            fn decode(input: &mut Decoder, _: ApiVersion) -> Result<Self, DecodeError> {
                input.take_array("uuid").map(Self::from_bytes)
            }
        }
    )*};
}
wire_uuid!(TopicId, ClusterId, DirectoryId, IncarnationId);

impl Wire for bool {
    const SIZE_MIN: usize = 1;
    fn encode(&self, out: &mut Encoder, _: ApiVersion) {
        out.put_raw(&[u8::from(*self)]);
    }
    fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError> {
        match u8::decode(input, version)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Invalid {
                what: "bool",
                value: other.into(),
            }),
        }
    }
}

impl Wire for String {
    const SIZE_MIN: usize = 2;
    fn encode(&self, out: &mut Encoder, _: ApiVersion) {
        out.put_str(self);
    }
    fn decode(input: &mut Decoder, _: ApiVersion) -> Result<Self, DecodeError> {
        input.take_str().map(str::to_owned)
    }
}

impl Wire for TopicName {
    const SIZE_MIN: usize = 2 + 1;
    fn encode(&self, out: &mut Encoder, _: ApiVersion) {
        out.put_str(self.as_str());
    }
    fn decode(input: &mut Decoder, _: ApiVersion) -> Result<Self, DecodeError> {
        Ok(Self::new(input.take_str()?)?)
    }
}

impl Wire for Bytes {
    const SIZE_MIN: usize = 4;
    fn encode(&self, out: &mut Encoder, _: ApiVersion) {
        out.put_bytes(self);
    }
    fn decode(input: &mut Decoder, _: ApiVersion) -> Result<Self, DecodeError> {
        input.take_bytes()
    }
}

impl<T: Wire> Wire for Option<T> {
    const SIZE_MIN: usize = 1;
    fn encode(&self, out: &mut Encoder, version: ApiVersion) {
        self.is_some().encode(out, version);
        if let Some(value) = self {
            value.encode(out, version);
        }
    }
    fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError> {
        if bool::decode(input, version)? {
            T::decode(input, version).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    const SIZE_MIN: usize = 4;
    fn encode(&self, out: &mut Encoder, version: ApiVersion) {
        out.put_count(self.len());
        for element in self {
            element.encode(out, version);
        }
    }
    fn decode(input: &mut Decoder, version: ApiVersion) -> Result<Self, DecodeError> {
        const {
            assert!(
                T::SIZE_MIN > 0,
                "an element of no bytes would make the count unbounded"
            );
        };
        let count = u32::decode(input, version)? as usize;
        let needed = count.saturating_mul(T::SIZE_MIN);
        let left = input.remaining();
        if needed > left {
            return Err(DecodeError::Truncated {
                what: "array",
                needed,
                left,
            });
        }
        input.take_elements(count)?;
        // Elements can be larger in memory than on the wire, so a hostile count is not believed
        // at once: the vector grows with the elements that are really there.
        let mut elements = Self::with_capacity(count.min(64));
        for _ in 0..count {
            elements.push(T::decode(input, version)?);
        }
        Ok(elements)
    }
}
