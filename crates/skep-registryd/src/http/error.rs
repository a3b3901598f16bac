//! Errors as clients see them: the one table from codes to statuses and names.

use http::StatusCode;
use serde_json::{Value, json};

use crate::error::{Code, Error};
use crate::http::answer::Answer;

/// Status and name of a code.
pub(crate) fn wire(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::BlobUnknown => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
        Code::BlobUploadInvalid => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
        Code::BlobUploadUnknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        Code::DigestInvalid => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        Code::ManifestBlobUnknown => (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"),
        Code::ManifestInvalid => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
        Code::ManifestUnknown => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        Code::NameInvalid => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
        Code::NameUnknown => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        Code::SizeInvalid => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
        Code::TagInvalid => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
        Code::PaginationNumberInvalid => (StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID"),
        Code::RangeInvalid => (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID"),
        Code::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        Code::Denied => (StatusCode::FORBIDDEN, "DENIED"),
        Code::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
        Code::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        Code::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

/// The answer to a request that failed. What is the registry's own fault is not told in detail: it may name its files.
pub(crate) fn answer(error: &Error) -> Answer {
    let (code, message, detail) = match error {
        Error::Refused(refusal) => (refusal.code, refusal.message.as_str(), refusal.detail.clone()),
        Error::Body(_) => (Code::SizeInvalid, "the request's body broke off", Value::Null),
        Error::Metadata(_) | Error::Storage(_) | Error::Upload(_) | Error::Broken(_) => {
            (Code::Unknown, "the registry failed, its log tells why", Value::Null)
        }
    };
    let (status, name) = wire(code);
    let mut entry = json!({"code": name, "message": message});
    if !detail.is_null() {
        entry["detail"] = detail;
    }
    let body = json!({"errors": [entry]}).to_string();
    Answer::bytes(status, "application/json", body)
}
