//! Highwater benches.
