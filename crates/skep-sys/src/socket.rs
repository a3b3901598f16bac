//! What sockets tell about themselves.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many bytes (with the kernel's own around them) were sent, but not yet read by the peer of a Unix socket, or not yet
/// acknowledged by that of a TCP connection.
pub fn unread_by_peer(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut length: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int to where the pointer points.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut length) } {
        0 => Ok(usize::try_from(length).unwrap_or(0)),
        _ => {
            let error = io::Error::last_os_error();
            Err(io::Error::new(error.kind(), format!("ioctl SIOCOUTQ: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn until_the_peer_has_read() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        assert_eq!(unread_by_peer(one.as_fd()).unwrap(), 0);
        one.write_all(b"text").unwrap();
        assert!(unread_by_peer(one.as_fd()).unwrap() >= 4);
        other.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(unread_by_peer(one.as_fd()).unwrap(), 0);
    }
}
