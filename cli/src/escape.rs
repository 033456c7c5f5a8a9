//! `\n`, `\t`, `\xNN`: bytes that are hard to type on a command line.

/// Why an escape sequence is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EscapeError {
    /// A backslash at the end.
    #[error("a backslash at the end: write \\\\ for a backslash itself")]
    Unfinished,
    /// A letter without a meaning.
    #[error("unknown escape \\{0}: known are \\n \\t \\r \\0 \\\\ \\xNN")]
    Unknown(char),
    /// `\x` without two hexadecimal digits.
    #[error("\\x needs two hexadecimal digits, as in \\x1f")]
    Hex,
}

/// Takes one escape sequence, whose backslash is already gone, off the input.
pub(crate) fn take_escape(chars: &mut std::str::Chars<'_>) -> Result<u8, EscapeError> {
    match chars.next().ok_or(EscapeError::Unfinished)? {
        'n' => Ok(b'\n'),
        't' => Ok(b'\t'),
        'r' => Ok(b'\r'),
        '0' => Ok(0),
        '\\' => Ok(b'\\'),
        'x' => {
            let mut digit = || {
                chars
                    .next()
                    .and_then(|c| c.to_digit(16))
                    .ok_or(EscapeError::Hex)
            };
            let (high, low) = (digit()?, digit()?);
            Ok((high * 16 + low) as u8)
        }
        other => Err(EscapeError::Unknown(other)),
    }
}

/// The bytes that a text with escapes stands for.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, EscapeError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            bytes.push(take_escape(&mut chars)?);
        } else {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_becomes_its_byte() {
        assert_eq!(
            unescape(r"a\n\t\r\0\\\x1f\xFFä").unwrap(),
            b"a\n\t\r\0\\\x1f\xff\xc3\xa4"
        );
        assert_eq!(unescape("").unwrap(), b"");
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        assert_eq!(unescape("\\"), Err(EscapeError::Unfinished));
        assert_eq!(unescape("\\q"), Err(EscapeError::Unknown('q')));
        for bad in ["\\x", "\\x1", "\\x1g", "\\xä"] {
            assert_eq!(unescape(bad), Err(EscapeError::Hex), "{bad}");
        }
    }
}
