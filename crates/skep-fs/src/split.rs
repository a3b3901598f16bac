//! A layer's archive with the file contents taken out.
