//! A violation told to a person: the read, what was done to its counter shortly before, and what was broken then.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Rule, Violation};
use crate::consistency::history::{Fault, History, Moment, Read, Write};

/// How far back the story begins.
const BACK: Duration = Duration::from_secs(5);
/// Operations told of each kind.
const TOLD_MAX: usize = 20;

/// The story of one violation, several lines.
pub fn tell(history: &History, faults: &[Fault], violation: &Violation) -> String {
    let read = &history.reads[violation.read];
    let begin = Moment::after(read.began.since(Moment::after(BACK)));
    let is_near = |began: Moment, ended: Moment| ended >= begin && began <= read.ended;
    let bound = match violation.rule {
        Rule::Invented => "at most",
        _ => "at least",
    };
    let mut lines: Vec<(Moment, String)> = Vec::new();
    let near = history
        .writes
        .iter()
        .zip(0..)
        .filter(|(write, place)| {
            write.object == read.object
                && (is_near(write.began, write.ended) || read.after == Some(*place))
        })
        .map(|(write, place)| (write.began, tell_write(write, place)));
    lines.extend(newest(near.collect()));
    let near = history
        .reads
        .iter()
        .filter(|other| other.object == read.object && is_near(other.began, other.ended))
        .map(|other| (other.began, tell_read(other)));
    lines.extend(newest(near.collect()));
    let near = faults
        .iter()
        .filter(|fault| is_near(fault.began, fault.ended))
        .map(|fault| {
            let told = format!("{} {}", fault.kind, fault.target);
            (fault.began, line(fault.began, fault.ended, &told))
        });
    lines.extend(newest(near.collect()));
    lines.sort();
    let mut story = format!(
        "{:?}: counter {} through gateway {} must be {bound} {}:\n{}\nbefore it:\n",
        violation.rule,
        read.object,
        read.gateway,
        violation.bound,
        tell_read(read)
    );
    for (_, line) in lines {
        let _ = writeln!(story, "{line}");
    }
    story
}

fn newest(mut lines: Vec<(Moment, String)>) -> Vec<(Moment, String)> {
    lines.sort();
    let from = lines.len().saturating_sub(TOLD_MAX);
    lines.split_off(from)
}

fn tell_write(write: &Write, place: u32) -> String {
    let by = match write.gateway {
        Some(gateway) => format!("through gateway {gateway}"),
        None => "by SQL".to_owned(),
    };
    let value = write
        .value
        .map(|value| format!(", made {value}"))
        .unwrap_or_default();
    let told = format!("write #{place} {by}: {:?}{value}", write.fate);
    line(write.began, write.ended, &told)
}

fn tell_read(read: &Read) -> String {
    let mark = if read.is_marked { ", marked" } else { "" };
    let token = read
        .after
        .map(|write| format!(", with the token of write #{write}"))
        .unwrap_or_default();
    let told = format!(
        "read through gateway {}: {}{mark}{token}",
        read.gateway, read.value
    );
    line(read.began, read.ended, &told)
}

fn line(began: Moment, ended: Moment, told: &str) -> String {
    format!(
        "  {:>11.6} .. {:>11.6} s  {told}",
        began.as_secs_f64(),
        ended.as_secs_f64()
    )
}
