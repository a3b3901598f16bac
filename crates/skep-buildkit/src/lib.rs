//! BuildKit's protocol.
pub use bollard_buildkit_proto as proto;
