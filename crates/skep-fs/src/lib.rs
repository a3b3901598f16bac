//! skep-fs
