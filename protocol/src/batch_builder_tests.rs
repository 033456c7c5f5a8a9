//! Tests of the batch builder.
