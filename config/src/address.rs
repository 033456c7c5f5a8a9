//! `host:port` as people write it.

use std::net::Ipv6Addr;

use thiserror::Error;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// No port.
    #[error("the port is missing; write host:port")]
    PortMissing,
    /// Not a number up to 65535.
    #[error("{port:?} is not a port")]
    Port {
        /// As written.
        port: String,
    },
    /// Port 0 where one must be chosen.
    #[error("port 0 makes no sense here")]
    PortZero,
    /// No host.
    #[error("the host is missing; write 127.0.0.1:port, or 0.0.0.0:port to listen everywhere")]
    HostMissing,
    /// A character that no host name has.
    #[error("{host:?} is not a host name")]
    Host {
        /// As written.
        host: String,
    },
    /// An IPv6 address without brackets.
    #[error("an IPv6 address needs brackets: [{host}]:port")]
    Brackets {
        /// As written.
        host: String,
    },
}

/// Checks `host:port` and returns it in its plain form. A `plaintext://` in front, as other products
/// write it, is dropped.
pub(crate) fn parse(text: &str, port_zero: bool) -> Result<String, AddressError> {
    const SCHEME: &str = "plaintext://";
    let text = match text.get(..SCHEME.len()) {
        Some(start) if start.eq_ignore_ascii_case(SCHEME) => &text[SCHEME.len()..],
        _ => text,
    };
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::PortMissing)?;
    if host.is_empty() {
        return Err(AddressError::HostMissing);
    }
    check_host(host)?;
    let number: u16 = match port.parse() {
        Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => number,
        _ => {
            return Err(AddressError::Port {
                port: port.to_owned(),
            });
        }
    };
    if number == 0 && !port_zero {
        return Err(AddressError::PortZero);
    }
    Ok(format!("{host}:{number}"))
}

/// The host of an address that was checked, without brackets.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn check_host(host: &str) -> Result<(), AddressError> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner
            .strip_suffix(']')
            .and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return match address {
            Some(_) => Ok(()),
            None => Err(AddressError::Host {
                host: host.to_owned(),
            }),
        };
    }
    if host.contains(':') {
        return Err(AddressError::Brackets {
            host: host.to_owned(),
        });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.len() > 253 || !host.chars().all(allowed) {
        return Err(AddressError::Host {
            host: host.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in [
            "127.0.0.1:7171",
            "localhost:1",
            "[::1]:80",
            "broker-0.highwater:7171",
        ] {
            assert_eq!(parse(good, false).as_deref(), Ok(good));
        }
        assert_eq!(
            parse("PLAINTEXT://0.0.0.0:9092", false).as_deref(),
            Ok("0.0.0.0:9092")
        );
        assert_eq!(parse("a:0", true).as_deref(), Ok("a:0"));
        assert_eq!(parse("a:0", false), Err(AddressError::PortZero));
        assert_eq!(parse("7171", false), Err(AddressError::PortMissing));
        assert_eq!(parse(":7171", false), Err(AddressError::HostMissing));
        assert!(matches!(
            parse("::1:7171", false),
            Err(AddressError::Brackets { .. })
        ));
        for bad in [
            "a:65536",
            "a:-1",
            "a:+1",
            "a:",
            "a b:1",
            "http://a:1",
            "[::g]:1",
            "ä:1",
            "a/:1",
        ] {
            assert!(parse(bad, true).is_err(), "{bad:?}");
        }
        assert_eq!(host("[::1]:80"), "::1");
        assert_eq!(host("localhost:1"), "localhost");
    }
}
