//! One error type per operation; each says whether trying again can help, whether its effect may
//! have happened all the same, and has a stable name for scripts and metrics.
//!
//! All of them are cheap to clone, because one failed batch fails many acknowledgements.

mod admin;
mod connect;
mod read;
mod request;
mod send;

pub use admin::AdminError;
pub use connect::ConnectError;
pub use read::ReadError;
pub use request::RequestError;
pub use send::{CloseError, PartlyEnqueued, Rejected, SendError, Undelivered};
