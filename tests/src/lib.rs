//! Highwater tests.
