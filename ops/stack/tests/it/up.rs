//! What `stack up` refuses before it starts anything.

use std::{fs, net::TcpListener, process::Output};

use stack::ports::Reserved;

use crate::support::{data_dir, stack};

fn refused(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = stack(&["up"]).args(arguments).output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn a_busy_port_is_named_and_nothing_is_started() {
    let dir = data_dir();
    let data = dir.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data_argument = data.to_str().unwrap();
    let error = refused(&["--data", data_argument, "--listen", &address]);
    assert!(
        error.contains(&address) && error.contains("--listen"),
        "{error}"
    );
    let error = refused(&[
        "--data",
        data_argument,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        &address,
    ]);
    assert!(
        error.contains(&address) && error.contains("--admin"),
        "{error}"
    );
    assert!(!data.exists());
}

#[test]
fn the_same_port_for_both_listeners_is_no_other_program() {
    let address = Reserved::any().unwrap().address();
    let (ip, port) = (address.ip(), address.port());
    for listen in [format!("localhost:{port}"), format!("0.0.0.0:{port}")] {
        let error = refused(&["--listen", &listen, "--admin", &format!("{ip}:{port}")]);
        assert!(error.contains("are the same port"), "{error}");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    assert!(refused(&["--origins", "0"]).contains("--origins"));
    for gateways in ["0", "17"] {
        assert!(refused(&["--gateways", gateways]).contains("--gateways"));
    }
    for products in ["0", "50000001"] {
        assert!(refused(&["--products", products]).contains("--products"));
    }
}

#[test]
fn a_data_directory_below_a_closed_one_is_named() {
    if !nix::unistd::geteuid().is_root() {
        // Only root steps down to an account that could be shut out.
        return;
    }
    let dir = data_dir();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&closed, mode).unwrap();
    let data = closed.join("data");
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let error = refused(&[&["--data", data.to_str().unwrap()], &free[..]].concat());
    assert!(
        error.contains(&format!("cannot enter {}", closed.display())),
        "{error}"
    );
    assert!(!data.exists());
}

#[test]
fn missing_directories_are_named_before_anything_is_started() {
    let dir = data_dir();
    let data = dir.path().join("data");
    let free = [
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data",
    ];
    let common = [&free[..], &[data.to_str().unwrap()]].concat();
    for named in [
        ["--csv", "/no/such/csv"],
        ["--endpoints", "/no/such/folder/file"],
    ] {
        let error = refused(&[&common[..], &named].concat());
        assert!(
            error.contains(named[0]) && error.contains(named[1]),
            "{error}"
        );
    }
    assert!(!data.exists());
}
