//! An answer: status, headers, and a body read as a whole, in chunks, or as a stream of JSON messages.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde::de::DeserializeOwned;

use crate::client::{Body, Client};
use crate::error::{Error, Result};

/// The largest error body that is looked at.
const ERROR_BODY_LIMIT: usize = 1 << 20;

/// An answer whose head has come.
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    client: Client,
    /// Given back to the client once the body was read to its end.
    sender: Option<SendRequest<Body>>,
}

impl Response {
    pub(crate) fn new(response: http::Response<Incoming>, client: Client, sender: SendRequest<Body>) -> Self {
        let (head, body) = response.into_parts();
        Response { status: head.status, headers: head.headers, body, client, sender: Some(sender) }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The next piece of the body, None at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        if let Some(sender) = self.sender.take() {
            self.client.keep(sender);
        }
        Ok(None)
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Bytes> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(more) = self.chunk().await? {
            all.extend_from_slice(&more);
        }
        Ok(all.freeze())
    }

    /// The whole body, decoded.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        Ok(skep_wire::from_slice(&self.bytes().await?)?)
    }

    /// The body as a stream of JSON messages, one after the other (`events`, `pull`, `stats`).
    pub fn json_stream<T: DeserializeOwned>(self) -> JsonStream<T> {
        JsonStream { response: self, buffer: BytesMut::new(), message: PhantomData }
    }
}

/// Messages of a stream, decoded as they come.
pub struct JsonStream<T> {
    response: Response,
    buffer: BytesMut,
    message: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonStream<T> {
    /// The next message, None at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<serde_json::Value>();
            let first = messages.next();
            let used = messages.byte_offset();
            match first {
                Some(Ok(message)) => {
                    let _ = self.buffer.split_to(used);
                    return Ok(Some(skep_wire::from_value(message)?));
                }
                Some(Err(error)) if !error.is_eof() => return Err(Error::Stream(error)),
                Some(Err(_)) | None => {}
            }
            match self.response.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => return Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

/// Reads the engine's message out of a failed answer.
pub(crate) async fn api_error(mut response: Response) -> Error {
    let status = response.status();
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= ERROR_BODY_LIMIT => body.extend_from_slice(&chunk),
            Ok(_) => break,
            Err(error) => return error,
        }
    }
    let message = match skep_wire::from_slice::<skep_wire::ErrorBody>(&body) {
        Ok(error) if !error.message.is_empty() => error.message.trim().to_owned(),
        _ => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    let message = match message.is_empty() {
        true => format!("request returned {status}; check if the server supports the requested API version"),
        false => message,
    };
    Error::Api { status, message }
}
