//! Services are started again, and stopped for good.

use std::{fs, future::pending, path::Path, process::Command, time::Duration};

use nix::sys::signal::{Signal, kill};
use stack::{Service, Supervisor, console::Console, process, supervisor::Running};

use crate::support::{PATIENCE, eventually};

fn supervisor() -> Supervisor {
    Supervisor::new(Console::new(false)).unwrap()
}

fn shell(name: &str, script: String) -> Service {
    Service::new(name, move || {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]);
        command
    })
}

async fn restarted(service: &Running, starts: u32) {
    service
        .ready(PATIENCE, async |_| service.process().starts >= starts)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_killed_service_is_started_again() {
    let mut supervisor = supervisor();
    let service = supervisor
        .start(vec![shell("cat", "exec sleep 1000".into())])
        .unwrap()
        .remove(0);
    let first = service.process().id;
    kill(process::pid(first), Signal::SIGKILL).unwrap();
    restarted(&service, 2).await;
    let second = service.process().id;
    assert_ne!(first, second);
    assert!(process::is_alive(second));
    supervisor.stop(pending()).await;
    assert!(!process::is_alive(second));
}

#[tokio::test]
async fn a_service_that_keeps_ending_is_reported_and_not_waited_for() {
    let mut supervisor = supervisor();
    let service = supervisor
        .start(vec![shell("broken", "exit 3".into())])
        .unwrap()
        .remove(0);
    let error = service
        .ready(PATIENCE, async |_| false)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("broken ended 3 times"), "{error}");
    supervisor.stop(pending()).await;
}

#[tokio::test]
async fn a_missing_program_is_an_error_naming_it() {
    let service = Service::new("none", || Command::new("/no/such/program"));
    let error = supervisor().start(vec![service]).unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");
}

#[tokio::test]
async fn stages_stop_in_the_reverse_order_of_their_start() {
    let dir = tempfile::tempdir().unwrap();
    let order = dir.path().join("order");
    let noting = |name: &str| {
        let order = order.to_str().unwrap();
        let ready = dir.path().join(name);
        let script = format!(
            "trap 'echo {name} >> {order}; exit' TERM; touch {}; while :; do sleep 0.05; done",
            ready.display()
        );
        (shell(name, script), ready)
    };
    let mut supervisor = supervisor();
    for name in ["database", "service", "gateway"] {
        let (service, ready) = noting(name);
        let running = supervisor.start(vec![service]).unwrap().remove(0);
        running
            .ready(PATIENCE, async |_| ready.exists())
            .await
            .unwrap();
    }
    supervisor.stop(pending()).await;
    assert_eq!(
        fs::read_to_string(&order).unwrap(),
        "gateway\nservice\ndatabase\n"
    );
}

#[tokio::test]
async fn a_service_deaf_to_its_signal_is_killed_after_its_grace_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let (service, child) = deaf(dir.path());
    let mut supervisor = supervisor();
    let service = service.grace(Duration::from_millis(100));
    let running = supervisor.start(vec![service]).unwrap().remove(0);
    running
        .ready(PATIENCE, async |_| read_id(&child).is_some())
        .await
        .unwrap();
    supervisor.stop(pending()).await;
    assert!(!process::is_alive(running.process().id));
    // SIGKILL is sent to the whole group, but the child is nobody's here to wait for.
    eventually("the child is gone", || {
        !process::is_alive(read_id(&child).unwrap())
    });
}

#[tokio::test]
async fn impatience_shortens_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let (service, child) = deaf(dir.path());
    let mut supervisor = supervisor();
    let running = supervisor
        .start(vec![service.grace(PATIENCE * 10)])
        .unwrap()
        .remove(0);
    running
        .ready(PATIENCE, async |_| read_id(&child).is_some())
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, supervisor.stop(async {}))
        .await
        .unwrap();
    assert!(!process::is_alive(running.process().id));
}

#[tokio::test]
async fn a_program_that_fails_is_an_error() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exit 4"]);
    let error = supervisor().run(command).await.unwrap_err().to_string();
    assert!(error.contains('4'), "{error}");
}

/// A service that ignores SIGTERM and has a child, whose id is in the file.
fn deaf(dir: &Path) -> (Service, std::path::PathBuf) {
    let child = dir.join("child");
    let script = format!(
        "trap '' TERM; sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait",
        child.display()
    );
    (shell("deaf", script), child)
}

fn read_id(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
