//! Places where a test can make the daemon die as by `kill -9`. They are not in release builds.
//!
//! The environment variable `SKEP_CRASH_FILE` names a file; while it says `NAME` or `NAME:COUNT`, the process kills itself when
//! it comes to the place NAME (for the COUNT-th time since the file says so).

/// A place where a crash would be at its worst.
#[cfg(debug_assertions)]
pub fn crash_point(name: &str) {
    use std::path::PathBuf;
    use std::sync::OnceLock;

    use parking_lot::Mutex;

    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    static SEEN: Mutex<(String, usize)> = Mutex::new((String::new(), 0));

    let Some(file) = FILE.get_or_init(|| std::env::var_os("SKEP_CRASH_FILE").map(PathBuf::from)) else { return };
    let Ok(order) = std::fs::read_to_string(file) else { return };
    let order = order.trim();
    let (wanted, count) = order.split_once(':').unwrap_or((order, "1"));
    if wanted != name {
        return;
    }
    let mut seen = SEEN.lock();
    if seen.0 != order {
        *seen = (order.to_owned(), 0);
    }
    seen.1 += 1;
    if count.parse() == Ok(seen.1) {
        // Signal 9 can't fail to arrive at oneself.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// A place where a crash would be at its worst: nothing outside of tests.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn crash_point(_name: &str) {}
