//! Tests of the batch header and its checks.
