//! The words that all parts of skep share: ids, digests, image references, names, sizes, signals and the closed
//! [`ErrorKind`]. Nothing here does I/O, and nothing here knows of HTTP or of the disk.
#![warn(missing_docs)]

mod digest;
mod duration;
mod error;
mod id;
mod platform;
mod port;
mod reference;
mod signal;
mod size;

pub use digest::{Digest, DigestError};
pub use duration::{DurationError, format_go_duration, parse_go_duration};
pub use error::ErrorKind;
pub use id::{ContainerId, ContainerName, ExecId, IdError, NameError, NetworkId, VolumeName};
pub use platform::{Platform, PlatformError};
pub use port::{Port, PortError, Protocol};
pub use reference::{Reference, ReferenceError, Selector};
pub use signal::{Signal, SignalError};
pub use size::{SizeError, format_binary, format_decimal, format_decimal_fine, parse_bytes};
