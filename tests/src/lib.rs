//! End-to-end scenarios; see the folder tests/.
