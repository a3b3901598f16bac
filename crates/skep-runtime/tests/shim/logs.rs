//! The container's log.

use std::fs;

use skep_runtime::protocol::{Reply, Request};

use crate::harness::{OUTPUT, demultiplex, read_all, shell};

#[test]
fn every_line_is_one_entry_in_dockers_form() {
    let mut container = shell("echo '<one>'; echo two >&2; printf three").start();
    container.wait();
    let text = fs::read_to_string(container.log_path()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(text.contains("{\"log\":\"\\u003cone\\u003e\\n\",\"stream\":\"stdout\",\"time\":\"20"), "{text}");
    assert!(text.contains("{\"log\":\"two\\n\",\"stream\":\"stderr\",\"time\":\"20"), "{text}");
    assert!(text.contains("{\"log\":\"three\",\"stream\":\"stdout\",\"time\":\"20"), "{text}");
    assert!(text.ends_with("Z\"}\n"));
}

#[test]
fn a_container_may_have_no_log() {
    let mut container = shell("echo one").with_config(|c| c.log = None).create();
    let client = container.attach(OUTPUT);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    assert_eq!(demultiplex(&read_all(&client)).0, b"one\n");
    container.wait();
    assert!(!container.log_path().exists());
}

#[test]
fn much_output_is_rotated_and_nothing_between_is_missing() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    let mut container = shell(script)
        .with_config(|c| {
            let log = c.log.as_mut().unwrap();
            (log.max_size, log.max_files) = (Some(200_000), 100);
        })
        .start();
    container.wait();
    let mut text = String::new();
    for number in (1..100).rev() {
        let path = container.log_path().with_extension(number.to_string());
        text += &crate::harness::log_text(&path);
        if let Ok(file) = fs::metadata(&path) {
            assert!((200_000..400_000).contains(&file.len()));
        }
    }
    assert!(!text.is_empty());
    text += &container.log();
    assert_eq!(text, (0..20000).map(|i| format!("{i}\n")).collect::<String>());
}

#[test]
fn a_full_disk_stops_nobody_and_is_told() {
    let setup = shell("i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done");
    let small = setup.directory().join("small");
    fs::create_dir(&small).unwrap();
    rustix::mount::mount("tmpfs", &small, "tmpfs", rustix::mount::MountFlags::empty(), Some(c"size=16k")).unwrap();
    let mut container = setup.with_config(|c| c.log.as_mut().unwrap().path = small.join("log")).create();
    let client = container.attach(OUTPUT);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    let (stdout, _) = demultiplex(&read_all(&client));
    assert_eq!(stdout, (0..3000).map(|i| format!("{i}\n")).collect::<String>().as_bytes());
    let told = loop {
        match container.control.next().unwrap() {
            Reply::Trouble(text) => break text,
            Reply::Exited { .. } => panic!("not told"),
            _ => {}
        }
    };
    assert!(told.contains("No space left"), "{told}");
    assert_eq!(container.wait().code, 0);
    // What is there is whole entries.
    assert!(crate::harness::log_text(&small.join("log")).starts_with("0\n1\n2\n"));
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).unwrap();
}
