//! End-to-end scenarios; see the folder `tests/e2e`. `cargo xtask check-edges` keeps everything else out of here.
