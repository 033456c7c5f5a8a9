//! Every hard bound of the product, in the bottom crate so that everyone may use it.

/// Largest frame a broker accepts by default, length field not counted, in bytes.
pub const FRAME_BYTES_MAX_DEFAULT: u32 = 64 << 20;
/// Largest frame that can be configured at all, in bytes.
pub const FRAME_BYTES_MAX_LIMIT: u32 = 1 << 30;
/// Largest record batch by default, header included, in bytes.
pub const BATCH_BYTES_MAX_DEFAULT: u32 = 1 << 20;
/// Largest record batch that can be configured, in bytes.
pub const BATCH_BYTES_MAX_LIMIT: u32 = 256 << 20;
/// Most partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 100_000;
/// Most elements that the arrays of one request may have together: enough to name every partition of
/// the largest topic.
pub const REQUEST_ELEMENTS_MAX: usize = 1 << 17;
/// Longest topic configuration value, in bytes.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4096;
/// Most record bytes that a reader will let one compressed batch unfold to, by default.
pub const DECOMPRESSED_BYTES_MAX_DEFAULT: usize = 128 << 20;
/// TCP port of the protocol by default.
pub const PORT_DEFAULT: u16 = 7171;
/// TCP port of the admin HTTP endpoint by default.
pub const ADMIN_PORT_DEFAULT: u16 = 7180;

const _: () = assert!(REQUEST_ELEMENTS_MAX > PARTITIONS_PER_TOPIC_MAX as usize);
const _: () = assert!(FRAME_BYTES_MAX_DEFAULT <= FRAME_BYTES_MAX_LIMIT);
const _: () = assert!(BATCH_BYTES_MAX_DEFAULT < FRAME_BYTES_MAX_DEFAULT);
const _: () = assert!(BATCH_BYTES_MAX_LIMIT < FRAME_BYTES_MAX_LIMIT);
