//! A replica follows its primary, can be held up, and is copied again only when it has to be.

use stack::{Replica, TestCluster};

use crate::support::data_dir;

const COUNT: &str = "select count(*) from noted";

#[test]
fn a_replica_shows_what_its_primary_commits_unless_it_is_held_up() {
    let primary = TestCluster::start();
    let primary = primary.cluster();
    primary.psql("postgres", "create table noted ()").unwrap();
    let replica = Replica::start_temporary(primary).unwrap();
    let count = || replica.cluster().psql("postgres", COUNT).unwrap();
    let note = || primary.psql("postgres", "insert into noted default values");
    note().unwrap();
    replica.catch_up(primary).unwrap();
    assert_eq!(count(), "1");
    replica.pause().unwrap();
    note().unwrap();
    assert_eq!(count(), "1");
    replica.resume().unwrap();
    replica.catch_up(primary).unwrap();
    assert_eq!(count(), "2");
    replica.promote().unwrap();
    let note_here = replica
        .cluster()
        .psql("postgres", "insert into noted default values");
    assert!(note_here.is_ok());
    assert!(!replica.is_following());
}

#[test]
fn a_copy_is_kept_while_it_can_follow_and_replaced_when_it_cannot() {
    let dir = data_dir();
    let primary = TestCluster::start();
    let primary = primary.cluster();
    primary.psql("postgres", "create table noted ()").unwrap();
    let mark = dir.path().join("postgres/mark");
    {
        let replica = Replica::open(primary, dir.path()).unwrap();
        replica.start().unwrap();
        std::fs::write(&mark, "").unwrap();
    }
    primary
        .psql("postgres", "insert into noted default values")
        .unwrap();
    {
        let replica = Replica::open(primary, dir.path()).unwrap();
        assert!(mark.exists(), "the copy is kept");
        replica.start().unwrap();
        replica.catch_up(primary).unwrap();
        assert_eq!(replica.cluster().psql("postgres", COUNT).unwrap(), "1");
        replica.promote().unwrap();
    }
    {
        let replica = Replica::open(primary, dir.path()).unwrap();
        assert!(!mark.exists(), "what went its own way is replaced");
        replica.start().unwrap();
        std::fs::write(&mark, "").unwrap();
    }
    let other = TestCluster::start();
    drop(Replica::open(other.cluster(), dir.path()).unwrap());
    assert!(!mark.exists(), "a copy of another cluster is replaced");
}
