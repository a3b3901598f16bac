//! What tests let run inside a cgroup: this same program again, with a role.

use std::io::{Read, Write};
use std::process::Command;

use super::*;

pub(crate) const CGROUP: &str = "SKEP_TEST_CGROUP";
const ROLE: &str = "SKEP_TEST_ROLE";

pub(crate) fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["helper::helper", "--exact", "--nocapture", "--quiet"]).env(ROLE, role);
    command
}

/// Not a test, but what the tests start.
#[test]
fn helper() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = CgroupPath::new(Some(&std::env::var(CGROUP).unwrap()), "").unwrap();
    Cgroup::open(&path).unwrap().add(std::process::id().try_into().unwrap()).unwrap();
    match role.split_once(' ').unwrap_or((&role, "")) {
        ("wait", _) => {
            say("ready");
            let _ = std::io::stdin().read(&mut [0]);
        }
        ("burn", _) => {
            let memory = vec![1u8; 8 << 20]; // enough that the kernel's batches of charges do not hide it
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(60) {
                std::hint::black_box(start);
            }
            say("burned");
            let _ = std::io::stdin().read(&mut [0]);
            std::hint::black_box(memory);
        }
        ("eat", megabytes) => {
            let memory = vec![1u8; megabytes.parse::<usize>().unwrap() << 20];
            say(&format!("ate {}", memory.iter().map(|byte| usize::from(*byte)).sum::<usize>() >> 20));
        }
        ("threads", count) => {
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
            let thread = || {
                let receiver = std::sync::Arc::clone(&receiver);
                std::thread::Builder::new().spawn(move || receiver.lock().unwrap().recv().is_ok())
            };
            let started: Vec<_> = (0..count.parse().unwrap()).map_while(|_| thread().ok()).collect();
            say(&format!("started {}", started.len()));
            drop(sender);
        }
        ("open", file) => say(&match std::fs::OpenOptions::new().read(true).write(true).open(file) {
            Ok(_) => "opened".to_owned(),
            Err(error) => format!("error {}", error.raw_os_error().unwrap_or(0)),
        }),
        ("fork", _) => {
            let _children: Vec<Child> = (0..20).map(|_| Command::new("sleep").arg("60").spawn().unwrap()).collect();
            say("forked");
            let _ = std::io::stdin().read(&mut [0]);
        }
        (other, _) => panic!("no role {other}"),
    }
    std::process::exit(0);
}

/// A line to the test, apart from what the test harness prints.
fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\n@{text}").and_then(|()| out.flush()).unwrap();
}

/// The next line that the helper says; `None` when it is gone.
pub(crate) fn hear(child: &mut Child) -> Option<String> {
    let stdout = child.stdout.as_mut().unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while stdout.read(&mut byte).unwrap() == 1 {
        if byte[0] != b'\n' {
            line.push(byte[0]);
        } else if line.first() == Some(&b'@') {
            return Some(String::from_utf8(line[1..].to_vec()).unwrap());
        } else {
            line.clear();
        }
    }
    None
}

/// What the helper says, and its end.
pub(crate) fn outcome(mut child: Child) -> (Option<String>, std::process::ExitStatus) {
    let said = hear(&mut child);
    (said, child.wait().unwrap())
}
