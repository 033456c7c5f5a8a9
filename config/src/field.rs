//! Between the values of the table and the typed fields of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use highwater_protocol::ids::NodeId;

use crate::broker::{LogFormat, Switch};
use crate::setting::Value;
use crate::topic::{CleanupPolicy, CompressionPolicy, Durability, TimestampPolicy};

/// A field's type. `from_value` gets only what the setting's kind lets through; that every setting's
/// kind agrees with its field is what the tests of the table assert.
pub(crate) trait Field: Sized {
    fn from_value(value: Value) -> Self;
    fn to_value(&self) -> Value;
}

#[cold]
#[track_caller]
fn mismatch(value: &Value) -> ! {
    panic!("the kind of a setting does not agree with its field: {value:?}")
}

macro_rules! number_field {
    ($($type:ty),*) => { $(
        impl Field for $type {
            fn from_value(value: Value) -> Self {
                match value {
                    Value::Number(number) => Self::try_from(number)
                        .expect("the bounds of the setting lie within the type"),
                    other => mismatch(&other),
                }
            }
            fn to_value(&self) -> Value {
                Value::Number(u64::try_from(*self).expect("at most 64 bits"))
            }
        }
    )* };
}

number_field!(u32, u64, usize);

impl Field for Duration {
    fn from_value(value: Value) -> Self {
        match value {
            Value::Duration(duration) => duration,
            other => mismatch(&other),
        }
    }
    fn to_value(&self) -> Value {
        Value::Duration(*self)
    }
}

impl Field for String {
    fn from_value(value: Value) -> Self {
        match value {
            Value::Text(text) => text,
            other => mismatch(&other),
        }
    }
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl Field for PathBuf {
    fn from_value(value: Value) -> Self {
        String::from_value(value).into()
    }
    fn to_value(&self) -> Value {
        Value::Text(self.to_string_lossy().into_owned())
    }
}

impl Field for Vec<String> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::List(items) => items,
            other => mismatch(&other),
        }
    }
    fn to_value(&self) -> Value {
        Value::List(self.clone())
    }
}

impl Field for NodeId {
    fn from_value(value: Value) -> Self {
        Self::new(u32::from_value(value))
    }
    fn to_value(&self) -> Value {
        self.get().to_value()
    }
}

impl<T: Field> Field for Option<T> {
    fn from_value(value: Value) -> Self {
        match value {
            Value::None => None,
            some => Some(T::from_value(some)),
        }
    }
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::None, T::to_value)
    }
}

macro_rules! word_field {
    ($type:ident { $($variant:ident = $word:literal),* }) => {
        impl $type {
            /// The word for it in a configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Field for $type {
            fn from_value(value: Value) -> Self {
                match &value {
                    $( Value::Text(text) if text == $word => Self::$variant, )*
                    other => mismatch(other),
                }
            }
            fn to_value(&self) -> Value {
                Value::Text(self.as_str().to_owned())
            }
        }
    };
}

word_field!(Switch { On = "on", Off = "off" });
word_field!(LogFormat { Text = "text", Json = "json" });
word_field!(Durability { Synced = "synced", Replicated = "replicated" });
word_field!(CleanupPolicy { Delete = "delete" });
word_field!(CompressionPolicy { Producer = "producer" });
word_field!(TimestampPolicy { Create = "create" });
