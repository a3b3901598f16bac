//! skep-api
