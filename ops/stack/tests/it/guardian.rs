//! Whatever happens to the owner, nothing it started stays.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus},
    thread::{self, JoinHandle},
};

use nix::sys::signal::Signal;
use stack::guardian::Guardian;

use crate::support::{Program, eventually, processes_naming, stack};

#[test]
fn a_temporary_cluster_is_gone_after_its_owner_was_killed_outright() {
    let (owner, url) = Program::start(&mut stack(&["scratch"]));
    let (_, socket) = url.split_once("?host=").unwrap();
    let dir = Path::new(socket).parent().unwrap();
    assert!(!processes_naming(dir).is_empty());
    owner.signal(Signal::SIGKILL);
    eventually("its processes are gone", || {
        processes_naming(dir).is_empty()
    });
    eventually("its directory is gone", || !dir.exists());
}

#[test]
fn a_temporary_cluster_is_gone_when_its_owner_has_ended() {
    let (mut owner, url) = Program::start(&mut stack(&["scratch"]));
    let (_, socket) = url.split_once("?host=").unwrap();
    let dir = Path::new(socket).parent().unwrap();
    owner.signal(Signal::SIGINT);
    assert!(owner.child.wait().unwrap().success());
    assert!(!dir.exists());
    assert_eq!(processes_naming(dir), []);
}

#[test]
fn a_watched_group_is_ended_and_a_forgotten_one_is_not() {
    let idle = || {
        Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap()
    };
    let (watched, mut forgotten) = (idle(), idle());
    let guardian = Guardian::start(None).unwrap();
    guardian.watch(watched.id(), Signal::SIGTERM).unwrap();
    guardian.watch(forgotten.id(), Signal::SIGTERM).unwrap();
    guardian.forget(forgotten.id()).unwrap();
    let watched = wait_for(watched);
    drop(guardian);
    assert!(!watched.join().unwrap().success());
    assert!(forgotten.try_wait().unwrap().is_none());
    forgotten.kill().unwrap();
    forgotten.wait().unwrap();
}

#[test]
fn a_watched_group_has_time_to_end_in_its_own_way() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, ended) = (dir.path().join("ready"), dir.path().join("ended"));
    let script = format!(
        "trap 'sleep 0.3; touch {}; exit 0' TERM; touch {}; while :; do sleep 0.05; done",
        ended.display(),
        ready.display()
    );
    let slow = Command::new("/bin/sh")
        .args(["-c", &script])
        .process_group(0)
        .spawn()
        .unwrap();
    let guardian = Guardian::start(None).unwrap();
    guardian.watch(slow.id(), Signal::SIGTERM).unwrap();
    eventually("it is ready", || ready.exists());
    let slow = wait_for(slow);
    drop(guardian);
    assert!(ended.exists(), "it was killed before it was done");
    assert!(slow.join().unwrap().success());
}

/// Waits on the side, as init does for an orphan: until then an ended process counts as there.
fn wait_for(mut child: Child) -> JoinHandle<ExitStatus> {
    thread::spawn(move || child.wait().unwrap())
}
