//! The planners over clusters of all shapes: where replicas go, what is moved, and when nothing is.

mod balance;
mod cluster;
mod healing;
mod placement;
mod reassignment;
mod safe_mode;
