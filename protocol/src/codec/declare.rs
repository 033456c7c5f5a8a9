//! Declaring messages: one list of fields gives the struct, its encoder and its decoder.

/// Declares a struct and its [`Wire`] form in one place. `field: Type, since N` marks a field that
/// exists from version N of its API on.
macro_rules! wire_struct {
    (
        $(#[$struct_meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident : $ty:ty $(, since $since:literal)? ; )*
        }
    ) => {
        $(#[$struct_meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $crate::codec::Wire for $name {
            const SIZE_MIN: usize = 0 $( + wire_struct!(@size $ty $(, $since)?) )*;

            fn encode(&self, out: &mut $crate::codec::Encoder, version: $crate::codec::ApiVersion) {
                $( wire_struct!(@encode self.$field, out, version $(, $since)?); )*
                let _ = (out, version);
            }

            fn decode(
                input: &mut $crate::codec::Decoder,
                version: $crate::codec::ApiVersion,
            ) -> Result<Self, $crate::codec::DecodeError> {
                $( let $field = wire_struct!(@decode $ty, input, version $(, $since)?); )*
                let _ = (input, version);
                Ok(Self { $( $field, )* })
            }
        }

        #[cfg(test)]
        impl $name {
            /// Name, type and first version of each field, for the test of the documentation.
            pub(crate) const LAYOUT: (&'static str, &'static [(&'static str, &'static str, u16)]) = (
                stringify!($name),
                &[$( (stringify!($field), stringify!($ty), 1 $( * $since )?), )*],
            );
        }

        #[cfg(test)]
        impl $crate::sample::Sample for $name {
            fn sample(source: &mut $crate::sample::Source) -> Self {
                Self { $( $field: $crate::sample::Sample::sample(source), )* }
            }
        }
    };
    (@size $ty:ty) => { <$ty as $crate::codec::Wire>::SIZE_MIN };
    (@size $ty:ty, $since:literal) => { 0 };
    (@encode $value:expr, $out:ident, $version:ident) => {
        $crate::codec::Wire::encode(&$value, $out, $version)
    };
    (@encode $value:expr, $out:ident, $version:ident, $since:literal) => {
        if $version.0 >= $since { $crate::codec::Wire::encode(&$value, $out, $version) }
    };
    (@decode $ty:ty, $input:ident, $version:ident) => {
        <$ty as $crate::codec::Wire>::decode($input, $version)?
    };
    (@decode $ty:ty, $input:ident, $version:ident, $since:literal) => {
        if $version.0 >= $since {
            <$ty as $crate::codec::Wire>::decode($input, $version)?
        } else {
            <$ty>::default()
        }
    };
}

/// Declares an enum that is one byte on the wire.
macro_rules! wire_enum {
    (
        $(#[$enum_meta:meta])*
        pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $value:literal, )* }
    ) => {
        $(#[$enum_meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )* }

        impl $crate::codec::Wire for $name {
            const SIZE_MIN: usize = 1;
            fn encode(&self, out: &mut $crate::codec::Encoder, _: $crate::codec::ApiVersion) {
                out.put_raw(&[match self { $( Self::$variant => $value, )* }]);
            }
            fn decode(
                input: &mut $crate::codec::Decoder,
                version: $crate::codec::ApiVersion,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match <u8 as $crate::codec::Wire>::decode(input, version)? {
                    $( $value => Ok(Self::$variant), )*
                    other => Err($crate::codec::DecodeError::Invalid {
                        what: stringify!($name),
                        value: other.into(),
                    }),
                }
            }
        }

        #[cfg(test)]
        impl $name {
            /// Name and number of each value, for the test of the documentation.
            pub(crate) const VALUES: &'static [(&'static str, u8)] =
                &[$( (stringify!($variant), $value), )*];
        }

        #[cfg(test)]
        impl $crate::sample::Sample for $name {
            fn sample(source: &mut $crate::sample::Source) -> Self {
                *source.one_of(&[$( Self::$variant, )*])
            }
        }
    };
}

pub(crate) use {wire_enum, wire_struct};
