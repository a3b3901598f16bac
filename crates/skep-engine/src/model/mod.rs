//! What the engine speaks of: containers, exec'd processes, volumes, networks, events. Callers build these values and get
//! them back; how they look in JSON is skep-api's business.

pub mod check;
pub mod container;
pub mod copy;
pub mod event;
pub mod exec;
pub mod explain;
pub mod gc;
pub mod host;
pub mod image;
pub mod network;
pub mod request;
pub mod stats;
pub mod status;
pub mod system;
pub mod view;
pub mod volume;
