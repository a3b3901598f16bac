//! The client's side of the Engine API: connections, version negotiation, typed and raw requests, streams.
//!
//! What this crate does not know: commands, terminals, texts for people other than errors. It never prints and never
//! reads the environment; [`Config`] carries what its user found there.
//!
//! ```text
//! Client ── request(method, path) ── RequestBuilder ── send()    ── Response  (json, bytes, chunks, json_stream)
//!                                                   └─ upgrade() ── Hijacked  (raw two-way stream, early bytes kept)
//! ```
//!
//! Connections are kept and used again one request at a time; requests that run side by side get one each.
//!
//! Version negotiation costs no round trip of its own: the first request goes out with the newest version this client
//! speaks. An older server refuses it, naming its own newest version in the `Api-Version` header of the refusal, and
//! the request is repeated with that. Only a request whose body cannot be repeated asks `/_ping` first.
#![warn(missing_docs)]

mod client;
mod endpoint;
mod error;
mod hijack;
mod io;
mod request;
mod response;
mod stdcopy;
mod tls;

pub use client::{ApiVersion, Client, Config, NEWEST_API};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, Result};
pub use hijack::{Hijacked, HijackedReader, HijackedWriter};
pub use request::{RequestBuilder, encode_path, encode_query};
pub use response::{JsonStream, Response};
pub use stdcopy::{Demultiplexer, Frame, Source};
pub use tls::TlsFiles;

pub use bytes::Bytes;
pub use http::{HeaderName, Method, StatusCode};
