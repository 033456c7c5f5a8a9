//! Tests of metadata records.
