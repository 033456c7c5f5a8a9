//! Highwater coordination.
