//! What became of each kind of request, second by second.

use std::fmt::Write as _;
use std::time::Duration;

use crate::paced::Outcome;
use crate::report::{or_dash, quantile};

/// A table with a row for each second in which requests fell due.
///
/// Of each kind it tells how many were answered with 2xx, with 503, otherwise or not at all, and the 99th percentile of
/// the latency. `marks` name what was done in a second.
pub fn table(outcomes: &[Outcome], kinds: &[&str], marks: &[(Duration, String)]) -> String {
    let mut table = String::from("| s |");
    for kind in kinds {
        let _ = write!(table, " {kind} 2xx | 503 | other | p99 ms |");
    }
    table.push_str(" |\n|---:|");
    table.push_str(&"---:|".repeat(kinds.len() * 4));
    table.push_str("---|\n");
    let seconds = outcomes
        .iter()
        .map(|outcome| outcome.due.as_secs() + 1)
        .max();
    for second in 0..seconds.unwrap_or_default() {
        let _ = write!(table, "| {second} |");
        for kind in 0..kinds.len() {
            let of_kind: Vec<&Outcome> = outcomes
                .iter()
                .filter(|outcome| outcome.kind == kind && outcome.due.as_secs() == second)
                .collect();
            table.push_str(&cells(&of_kind));
        }
        let marks = marks.iter().filter(|(at, _)| at.as_secs() == second);
        let marks: Vec<&str> = marks.map(|(_, mark)| mark.as_str()).collect();
        let _ = writeln!(table, " {} |", marks.join("; "));
    }
    table
}

fn cells(outcomes: &[&Outcome]) -> String {
    let good = outcomes.iter().filter(|one| one.is_good()).count();
    let refused = outcomes.iter().filter(|one| one.status() == 503).count();
    let other = outcomes.len() - good - refused;
    format!(
        " {good} | {refused} | {other} | {} |",
        p99_ms(outcomes.iter().copied())
    )
}

/// The 99th percentile of latencies in milliseconds, as text.
pub fn p99_ms<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> String {
    let ms: Vec<f64> = outcomes.map(Outcome::ms).collect();
    or_dash(quantile(&ms, 0.99).map(|ms| format!("{ms:.1}")))
}

/// Every outcome, one a line.
pub fn raw(outcomes: &[Outcome], kinds: &[&str]) -> String {
    let mut raw = String::from("number,kind,due_ms,took_ms,status,retry_after,hit\n");
    for one in outcomes {
        let (has_retry_after, is_hit) = one.reply.map_or((false, false), |reply| {
            (reply.has_retry_after, reply.is_hit)
        });
        let _ = writeln!(
            raw,
            "{},{},{:.3},{:.3},{},{has_retry_after},{is_hit}",
            one.number,
            kinds[one.kind],
            one.due.as_secs_f64() * 1e3,
            one.ms(),
            one.status(),
        );
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Reply;

    fn outcome(kind: usize, due_ms: u64, status: Option<u16>) -> Outcome {
        Outcome {
            number: 0,
            kind,
            due: Duration::from_millis(due_ms),
            took: Duration::from_millis(3),
            reply: status.map(|status| Reply {
                status,
                has_retry_after: status == 503,
                is_hit: false,
                digest: 0,
            }),
        }
    }

    #[test]
    fn each_second_has_its_answers_by_kind_and_status() {
        let outcomes = [
            outcome(0, 10, Some(200)),
            outcome(1, 20, Some(503)),
            outcome(1, 1_900, None),
        ];
        let marks = [(Duration::from_millis(1_500), "stopped".to_owned())];
        let table = table(&outcomes, &["reads", "writes"], &marks);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| 0 | 1 | 0 | 0 | 3.0 | 0 | 1 | 0 | 3.0 |  |",
                "| 1 | 0 | 0 | 0 | - | 0 | 0 | 1 | 3.0 | stopped |"
            ]
        );
    }
}
