//! Highwater client.
