//! The classes an error can belong to.

/// What kind of failure an error is: the only thing about an error that code may decide on.
///
/// The set is closed. One table in skep-api turns it into an HTTP status, one in the command line into an exit code;
/// both match without a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The request itself is wrong, whatever the state of the engine.
    InvalidParameter,
    /// The request contradicts the present state (a name in use, a running container).
    Conflict,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The caller may never do this.
    Forbidden,
    /// The object already is in the state asked for.
    NotModified,
    /// skep does not support this; the message names what.
    NotImplemented,
    /// Something outside the engine did not answer (a registry, a shim).
    Unavailable,
    /// Stored data is damaged.
    DataLoss,
    /// The caller went away or asked to stop.
    Cancelled,
    /// No room: disk, memory, addresses.
    Exhausted,
    /// Anything else that went wrong inside; the message tells what.
    System,
}
