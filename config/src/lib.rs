//! Highwater config.
