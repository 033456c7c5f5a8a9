//! Highwater broker.
