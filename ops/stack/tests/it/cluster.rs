//! The cluster keeps its data, can be broken on purpose, and touches nothing that is not its own.

use std::{fs, path::Path, sync::mpsc, thread, time::Duration};

use stack::{Cluster, Settings, TestCluster, cluster::Options};

use crate::support::data_dir;

fn open(dir: &Path, fresh: bool) -> anyhow::Result<Cluster> {
    Cluster::open(
        dir,
        Options {
            binaries: None,
            settings: Settings::test(),
            fresh,
        },
    )
}

fn insert(cluster: &Cluster, n: u32) {
    let statement =
        format!("create table if not exists kept (n int); insert into kept values ({n})");
    cluster.psql("postgres", &statement).unwrap();
}

fn kept(cluster: &Cluster) -> String {
    cluster
        .psql(
            "postgres",
            "select string_agg(n::text, ' ' order by n) from kept",
        )
        .unwrap()
}

#[test]
fn a_database_can_be_created_from_a_template_and_dropped() {
    let shared = TestCluster::shared();
    let template = shared.create_database(None);
    insert(shared.cluster(), 0);
    shared
        .cluster()
        .psql(&template, "create table copied as select 7 as n")
        .unwrap();
    let copy = shared.create_database(Some(&template));
    assert_eq!(
        shared
            .cluster()
            .psql(&copy, "select n from copied")
            .unwrap(),
        "7"
    );
    shared.drop_database(&copy);
    let count = format!("select count(*) from pg_database where datname = '{copy}'");
    assert_eq!(shared.cluster().psql("postgres", &count).unwrap(), "0");
}

#[test]
fn data_survive_every_way_of_stopping() {
    let test = TestCluster::start();
    let cluster = test.cluster();
    insert(cluster, 1);
    cluster.stop().unwrap();
    assert!(cluster.psql("postgres", "select 1").is_err());
    cluster.start().unwrap();
    insert(cluster, 2);
    cluster.stop_immediate().unwrap();
    cluster.start().unwrap();
    insert(cluster, 3);
    cluster.kill9().unwrap();
    assert!(cluster.psql("postgres", "select 1").is_err());
    cluster.start().unwrap();
    assert_eq!(kept(cluster), "1 2 3");
}

#[test]
fn a_frozen_server_answers_once_it_is_thawed() {
    let test = TestCluster::start();
    test.cluster().sigstop().unwrap();
    thread::scope(|scope| {
        let (sender, answers) = mpsc::channel();
        let cluster = test.cluster();
        scope.spawn(move || sender.send(cluster.psql("postgres", "select 1")));
        assert!(answers.recv_timeout(Duration::from_millis(300)).is_err());
        test.cluster().sigcont().unwrap();
        assert_eq!(answers.recv().unwrap().unwrap(), "1");
    });
}

#[test]
fn a_frozen_server_can_be_stopped() {
    let test = TestCluster::start();
    test.cluster().sigstop().unwrap();
    test.cluster().stop_immediate().unwrap();
    assert!(test.cluster().server_id().is_err());
}

#[test]
fn a_directory_in_use_is_refused_naming_who_uses_it() {
    let dir = data_dir();
    let data = dir.path().join("data");
    let first = open(&data, false).unwrap();
    let error = open(&data, false).unwrap_err().to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    assert!(error.contains(data.to_str().unwrap()), "{error}");
    drop(first);
    assert!(open(&data, false).is_ok());
}

#[test]
fn a_directory_with_other_files_is_left_alone() {
    let dir = data_dir();
    fs::write(dir.path().join("letter"), "dear").unwrap();
    let error = open(dir.path(), true).unwrap_err().to_string();
    assert!(error.contains("holds other files"), "{error}");
    assert_eq!(
        fs::read_to_string(dir.path().join("letter")).unwrap(),
        "dear"
    );
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let dir = data_dir();
    let error = open(&dir.path().join("d".repeat(100)), false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("shorter"), "{error}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_stale_process_id_that_another_program_has_now_does_not_stop_the_start() {
    let dir = data_dir();
    let data = dir.path().join("data");
    let cluster = open(&data, false).unwrap();
    cluster.start().unwrap();
    insert(&cluster, 4);
    cluster.kill9().unwrap();
    drop(cluster);
    let pid_file = data.join("postgres/postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    // A program of the same account: Postgres by itself would take it for the old server.
    let other = TestCluster::shared().cluster().server_id().unwrap();
    fs::write(&pid_file, format!("{other}\n{rest}")).unwrap();
    let cluster = open(&data, false).unwrap();
    cluster.start().unwrap();
    assert_eq!(kept(&cluster), "4");
    assert_eq!(
        TestCluster::shared()
            .cluster()
            .psql("postgres", "select 1")
            .unwrap(),
        "1"
    );
}

#[test]
fn a_fresh_cluster_has_no_data() {
    let dir = data_dir();
    let data = dir.path().join("data");
    let cluster = open(&data, false).unwrap();
    cluster.start().unwrap();
    insert(&cluster, 5);
    drop(cluster);
    assert!(Cluster::exists(&data));
    let cluster = open(&data, true).unwrap();
    cluster.start().unwrap();
    assert!(cluster.psql("postgres", "select n from kept").is_err());
}

#[test]
fn full_pages_are_compressed_by_the_quickest_method_there_is_unless_told_otherwise() {
    let show = |more: &[&str]| {
        let dir = data_dir();
        let settings = Settings {
            more: more.iter().map(ToString::to_string).collect(),
            ..Settings::test()
        };
        let options = Options {
            binaries: None,
            settings,
            fresh: false,
        };
        let cluster = Cluster::open(dir.path(), options).unwrap();
        cluster.start().unwrap();
        cluster.psql("postgres", "show wal_compression").unwrap()
    };
    assert!(["lz4", "pglz", "on"].contains(&show(&[]).as_str()));
    assert_eq!(show(&["wal_compression=off"]), "off");
}
