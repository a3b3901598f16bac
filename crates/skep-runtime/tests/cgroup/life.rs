//! Making, finding, freezing, killing, removing.

use super::helper::hear;
use super::*;

#[test]
fn from_creation_to_removal() {
    let scratch = Scratch::new("life");
    let dirs: Vec<PathBuf> = scratch.paths().map(|(_, path)| path.to_owned()).collect();
    assert!(!dirs.is_empty() && dirs.iter().all(|dir| dir.is_dir()), "{dirs:?}");
    assert!(scratch.pids().unwrap().is_empty());

    let sleeper = Sleeper::new();
    scratch.add(sleeper.pid()).unwrap();
    assert_eq!(scratch.pids().unwrap(), [sleeper.pid()]);
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid())).unwrap();
    let inside = own.lines().filter(|line| line.ends_with(&scratch.text)).count();
    assert_eq!(inside, dirs.len(), "{own}");

    assert!(matches!(Cgroup::create(&scratch.path), Err(Error::InUse { .. })));
    assert_eq!(Cgroup::open(&scratch.path).unwrap().pids().unwrap(), [sleeper.pid()]);

    scratch.kill_all().unwrap();
    until("the process is gone", || scratch.pids().unwrap().is_empty());
    let path = scratch.path.clone();
    drop(scratch);
    assert!(dirs.iter().all(|dir| !dir.exists()));
    assert!(matches!(Cgroup::open(&path), Err(Error::Gone { .. })));
}

#[test]
fn an_empty_one_is_taken_over() {
    let scratch = Scratch::new("takeover");
    let again = Cgroup::create(&scratch.path).unwrap();
    assert_eq!(again.paths().count(), scratch.paths().count());
}

#[test]
fn a_process_enters_by_itself() {
    let scratch = Scratch::new("enter");
    let cgroup = Cgroup::open(&scratch.path).unwrap();
    // A process moves only as a whole, but on v1 a thread of it can, and what that starts is inside.
    let sleeper = std::thread::spawn(move || {
        cgroup.enter().unwrap();
        Sleeper::new()
    });
    let sleeper = sleeper.join().unwrap();
    let expected = if kind() == Kind::Unified { Vec::new() } else { vec![sleeper.pid()] };
    assert_eq!(scratch.pids().unwrap(), expected);
    assert_eq!(scratch.clone_fd().is_some(), kind() != Kind::Legacy);
}

#[test]
fn frozen_processes_do_not_run_and_can_be_killed() {
    let scratch = Scratch::new("freeze");
    let mut child = scratch.helper("burn");
    assert_eq!(hear(&mut child).as_deref(), Some("burned"));
    assert!(!scratch.is_frozen().unwrap());
    scratch.freeze().unwrap();
    assert!(scratch.is_frozen().unwrap());
    scratch.freeze().unwrap(); // again is no error
    scratch.thaw().unwrap();
    assert!(!scratch.is_frozen().unwrap());
    scratch.freeze().unwrap();
    scratch.kill_all().unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn killing_and_removing_reach_cgroups_below() {
    let scratch = Scratch::new("below");
    let mut child = scratch.helper("fork");
    assert_eq!(hear(&mut child).as_deref(), Some("forked"));
    assert_eq!(scratch.pids().unwrap().len(), 21);

    let below: Vec<PathBuf> = scratch.paths().map(|(_, path)| path.join("made/inside")).collect();
    for dir in below.iter().filter(|dir| !dir.starts_with("/sys/fs/cgroup/cpuset")) {
        std::fs::create_dir_all(dir).unwrap();
    }
    let sleeper = Sleeper::new();
    if kind() != Kind::Unified {
        let devices = scratch.dir(Controllers::DEVICES).join("made/inside/cgroup.procs");
        std::fs::write(devices, sleeper.pid().to_string()).unwrap();
        assert_eq!(scratch.pids().unwrap().len(), 22);
    }
    scratch.kill_all().unwrap();
    assert!(!child.wait().unwrap().success());
    drop(sleeper);
    until("all are gone", || scratch.pids().unwrap().is_empty());
}

#[test]
fn removing_waits_for_the_end_of_processes() {
    let scratch = Scratch::new("busy");
    let mut child = scratch.helper("wait");
    assert_eq!(hear(&mut child).as_deref(), Some("ready"));
    scratch.kill_all().unwrap();
    let path = scratch.path.clone();
    let dirs: Vec<PathBuf> = scratch.paths().map(|(_, path)| path.to_owned()).collect();
    Cgroup::open(&path).unwrap().remove().unwrap(); // the killed process may well be there still
    assert!(dirs.iter().all(|dir| !dir.exists()));
    child.wait().unwrap();
}

#[test]
fn removing_what_has_processes_fails_and_removes_the_rest() {
    let scratch = Scratch::new("refuse");
    let sleeper = Sleeper::new();
    scratch.add(sleeper.pid()).unwrap();
    let error = Cgroup::open(&scratch.path).unwrap().remove().unwrap_err();
    assert!(matches!(&error, Error::Io { action: "remove", .. }), "{error}");
    drop(sleeper);
}
