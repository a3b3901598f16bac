//! On a terminal.

use skep_testkit::until;

use super::{engine, sleeper};

#[test]
fn a_shell() {
    let engine = engine();
    let mut terminal = engine.terminal(["run", "--rm", "-it", "busybox", "sh"]);
    terminal.expect("# ");
    terminal.send("tty; echo an''swer\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("answer");
    terminal.send("exit 9\n");
    assert_eq!(terminal.wait(), 9);
}

#[test]
fn sizes_follow() {
    let engine = engine();
    let mut terminal = engine.terminal(["run", "--rm", "-it", "busybox", "sh"]);
    terminal.expect("# ");
    terminal.resize(40, 111);
    until("the container has the new size", || {
        terminal.send("stty size\n");
        terminal.expect("stty size");
        terminal.expect("\n").is_empty() || terminal.shown().contains("40 111")
    });
    terminal.send("exit\n");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn detached_and_attached_again() {
    let engine = engine();
    let mut terminal = engine.terminal(["run", "-it", "--name", "one", "busybox", "sh"]);
    terminal.expect("# ");
    terminal.send([16, 17]); // Ctrl-P Ctrl-Q
    assert_eq!(terminal.wait(), 0);
    assert_eq!(engine.inspect("one")["State"]["Running"], true);
    let mut terminal = engine.terminal(["attach", "one"]);
    terminal.send("echo back''again\n");
    terminal.expect("backagain");
    terminal.send("exit 3\n");
    assert_eq!(terminal.wait(), 3);
    engine.until_status("one", "exited");
}

#[test]
fn exec_on_a_terminal() {
    let engine = engine();
    sleeper(&engine, "one");
    let mut terminal = engine.terminal(["exec", "-it", "one", "sh"]);
    terminal.expect("# ");
    terminal.send("echo in''side; exit 4\n");
    terminal.expect("inside");
    assert_eq!(terminal.wait(), 4);
}

#[test]
fn interrupting() {
    let engine = engine();
    let mut terminal =
        engine.terminal(["run", "--rm", "-it", "--init", "busybox", "sh", "-c", "echo begun; sleep 1000"]);
    terminal.expect("begun");
    terminal.send([3]); // Ctrl-C
    assert_eq!(terminal.wait(), 130);
    until("it is removed", || engine.run(["ps", "-aq"]).stdout.is_empty());
}

#[test]
fn a_terminal_is_asked_for_where_there_is_none() {
    let engine = engine();
    let outcome = engine.command(["run", "--rm", "-it", "busybox", "true"]).stdin("").run();
    outcome.code_is(1).stderr_has("the input device is not a TTY");
}
