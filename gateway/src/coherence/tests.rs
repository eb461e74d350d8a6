mod incarnations;
mod interleavings;

use std::time::Duration;

use prometheus::Registry;

use super::position::tests::token;
use super::*;

fn at(milliseconds: u64) -> Moment {
    Moment::from(Duration::from_millis(milliseconds))
}

fn coherence() -> Coherence {
    let metrics = CoherenceMetrics::new(&Registry::new()).unwrap();
    Coherence::new(config::Coherence::default(), metrics)
}

/// News of a poll, up to the transaction before `xmax`, of whatever was told before.
fn told(news: News, poll: u64, xmax: u64, wal: u64) -> Told {
    Told {
        news,
        tailer: "t".into(),
        poll,
        visible_since: None,
        wal: Some(Lsn(wal)),
        since: None,
        position: Some(format!("{xmax}:{xmax}:@7.1.a").parse().unwrap()),
    }
}

fn change(id: u64, group: &str) -> News {
    News::Changes(vec![Transaction {
        id: Some(token(id)),
        groups: vec![group.into()],
    }])
}

/// Applies news as the follower does, without anything to purge.
fn apply(coherence: &Coherence, mut told: Told, now: Moment) {
    coherence.prepare(&mut told);
    coherence.take(told, now);
}

/// Everything up to the transaction before `xmax` is applied, and there is a lease from `now`.
fn lease(coherence: &Coherence, poll: u64, xmax: u64, wal: u64, now: Moment) {
    apply(coherence, told(News::Nothing, poll, xmax, wal), now);
    let probed = Probed {
        tailer: "t".into(),
        poll,
        position: format!("{xmax}:{xmax}:@7.1.a").parse().unwrap(),
    };
    coherence.answered(now, probed, now);
}

#[test]
fn without_a_lease_only_the_primary_will_do() {
    let coherence = coherence();
    assert_eq!(coherence.after(at(0)), After::Primary);
    apply(&coherence, told(News::Nothing, 1, 5, 100), at(0));
    assert_eq!(coherence.after(at(0)), After::Primary);
    lease(&coherence, 2, 5, 100, at(10));
    assert_eq!(coherence.after(at(11)), After::Lsn(Lsn(100)));
    assert_eq!(coherence.after(at(2_010)), After::Primary);
    assert_eq!(
        coherence.unleased_for(at(2_015)),
        Some(Duration::from_millis(5))
    );
}

#[test]
fn a_fill_asks_for_a_change_before_the_change_is_purged() {
    let coherence = coherence();
    lease(&coherence, 1, 5, 100, at(0));
    coherence.prepare(&mut told(change(5, "g"), 2, 6, 200));
    assert_eq!(coherence.after(at(1)), After::Lsn(Lsn(200)));
    assert!(!coherence.has_seen(&[token(5)]), "it is not purged yet");
}

#[test]
fn a_stream_that_is_behind_takes_nothing_back_from_what_fills_ask_for() {
    let coherence = coherence();
    lease(&coherence, 1, 9, 300, at(0));
    lease(&coherence, 2, 7, 200, at(1));
    assert_eq!(coherence.after(at(2)), After::Lsn(Lsn(300)));
}

#[test]
fn another_life_of_the_server_has_another_log() {
    let coherence = coherence();
    apply(&coherence, told(change(5, "g"), 1, 6, 300), at(0));
    let groups = ["g".into()];
    assert!(coherence.unpurged(Some(&token(5)), &groups).is_empty());
    let reason = "incarnation".into();
    let mut other = told(News::Everything { reason }, 2, 6, 200);
    other.position = "6:6:@7.2.b".parse().ok();
    apply(&coherence, other, at(1));
    assert_eq!(coherence.state.lock().wal, Some(Lsn(200)));
    let same_number: Token = "5@7.2.b".parse().unwrap();
    assert_eq!(coherence.unpurged(Some(&same_number), &groups), ["g"]);
    assert!(coherence.has_seen(&[same_number]));
    assert!(!coherence.has_seen(&[token(5)]), "of a past life");
}

#[test]
fn a_lease_of_another_life_of_the_server_vouches_for_nothing() {
    let coherence = coherence();
    lease(&coherence, 1, 9, 300, at(0));
    // An origin that stood still tells of the life before.
    let reason = "incarnation".into();
    let mut of_before = told(News::Everything { reason }, 2, 6, 200);
    of_before.tailer = "frozen".into();
    of_before.position = "6:6:@7.1.z".parse().ok();
    coherence.prepare(&mut of_before);
    assert_eq!(coherence.after(at(1)), After::Primary);
    coherence.take(of_before, at(1));
    assert_eq!(coherence.after(at(2)), After::Primary);
    assert!(coherence.unleased_for(at(2)).is_some());
    lease(&coherence, 3, 10, 400, at(3));
    assert_eq!(coherence.after(at(4)), After::Lsn(Lsn(400)));
}

#[test]
fn while_an_own_write_is_not_shown_only_the_primary_will_do() {
    let coherence = coherence();
    lease(&coherence, 1, 5, 100, at(0));
    coherence.begin_write(Some(&token(7)), true, at(1));
    assert_eq!(coherence.after(at(2)), After::Primary);
    assert!(coherence.has_seen(&[token(7)]), "it was purged for here");
    apply(&coherence, told(change(7, "g"), 2, 8, 200), at(3));
    assert_eq!(coherence.after(at(4)), After::Lsn(Lsn(200)));
    assert!(coherence.has_seen(&[token(7)]) && !coherence.has_seen(&[token(8)]));
}

#[test]
fn a_write_that_changed_nothing_kept_keeps_nobody_from_replicas() {
    let coherence = coherence();
    lease(&coherence, 1, 5, 100, at(0));
    coherence.begin_write(None, false, at(1));
    assert_eq!(coherence.after(at(2)), After::Lsn(Lsn(100)));
    coherence.begin_write(None, true, at(3));
    assert_eq!(coherence.after(at(4)), After::Primary);
    lease(&coherence, 2, 5, 100, at(5));
    assert_eq!(coherence.after(at(6)), After::Lsn(Lsn(100)));
}

#[test]
fn a_part_of_a_poll_moves_no_position_and_grants_no_lease() {
    let coherence = coherence();
    lease(&coherence, 1, 5, 100, at(0));
    let probed = Probed {
        tailer: "t".into(),
        poll: 2,
        position: "9:9:@7.1.a".parse().unwrap(),
    };
    coherence.answered(at(500), probed, at(500));
    let mut part = told(change(5, "g"), 2, 9, 200);
    part.position = None;
    apply(&coherence, part, at(501));
    assert!(!coherence.has_seen(&[token(5)]));
    assert_eq!(coherence.leased_from(), Some(at(0)));
    apply(&coherence, told(change(8, "h"), 2, 9, 200), at(502));
    assert!(coherence.has_seen(&[token(5)]));
    assert_eq!(coherence.leased_from(), Some(at(500)));
}

#[test]
fn what_was_told_and_has_not_come_is_noticed_at_the_next_event() {
    let coherence = coherence();
    let follows = |since: &str| {
        let mut told = told(News::Nothing, 2, 7, 200);
        told.since = since.parse().ok();
        coherence.prepare(&mut told);
        told.news == News::Nothing
    };
    assert!(!follows("0:0:@7.1.a"), "nothing has come at all");
    lease(&coherence, 1, 5, 100, at(0));
    assert!(follows("5:5:@7.1.a") && follows("3:9:3,5,6,7,8@7.1.a"));
    assert!(!follows("6:6:@7.1.a") && !follows("5:5:@7.1.b"));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_write_waits_until_it_is_shown_or_for_so_long() {
    let coherence = Arc::new(coherence());
    lease(&coherence, 1, 5, 100, at(0));
    let wait = Duration::from_secs(60);
    let waiting = {
        let coherence = Arc::clone(&coherence);
        tokio::spawn(async move { coherence.see(&[token(5)], wait).await })
    };
    tokio::task::yield_now().await;
    apply(&coherence, told(News::Nothing, 2, 5, 100), at(1));
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    apply(&coherence, told(change(5, "g"), 3, 6, 200), at(2));
    assert!(waiting.await.unwrap());
    let began = Instant::now();
    assert!(!coherence.see(&[token(9)], wait).await);
    assert_eq!(began.elapsed(), wait);
}
