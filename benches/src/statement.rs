//! The origin's statements, by name, for measurements that send them without the origin.

use anyhow::{Context, Result};

/// The text of one of the origin's statements.
///
/// # Errors
/// There is none of this name.
pub fn text(name: &str) -> Result<&'static str> {
    let all = origin::statements();
    let found = all.iter().find(|statement| statement.name == name);
    Ok(found
        .with_context(|| format!("the origin has no statement {name}"))?
        .sql)
}

/// A statement with an expression in the place of each parameter, and without its comments.
///
/// # Errors
/// A parameter that has no expression, or an expression that is not used.
pub fn inline(sql: &str, expressions: &[&str]) -> Result<String> {
    let mut out = String::with_capacity(sql.len());
    let mut used = vec![false; expressions.len()];
    for line in sql.lines() {
        let mut parts = line
            .split_once("--")
            .map_or(line, |(code, _)| code)
            .split('$');
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let end = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            let (number, rest) = part.split_at(end);
            let place = number
                .parse::<usize>()
                .ok()
                .and_then(|number| number.checked_sub(1));
            let expression = place.and_then(|place| expressions.get(place));
            out.push_str(expression.with_context(|| format!("nothing given for ${number}"))?);
            used[place.unwrap_or_default()] = true;
            out.push_str(rest);
        }
        out.push('\n');
    }
    let unused = used.iter().position(|used| !used);
    match unused {
        Some(place) => anyhow::bail!("the statement has no parameter ${}", place + 1),
        None => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_replaced_by_number_and_comments_left_out() {
        let sql = "select $1, $10 -- not $2\n where a = $2::int4 and $1 > 0";
        let expressions = [":a", "5", "c", "d", "e", "f", "g", "h", "i", "j"];
        assert!(inline(sql, &expressions).is_err(), "seven are not used");
        assert!(inline(sql, &[":a"]).is_err(), "two are missing");
        let sql = "select $1 -- not $2\n where a = $2::int4 and $1 > 0";
        assert_eq!(
            inline(sql, &[":a", ":b"]).unwrap(),
            "select :a \n where a = :b::int4 and :a > 0\n"
        );
    }

    #[test]
    fn every_statement_of_the_origin_can_be_written_with_expressions() {
        for statement in origin::statements() {
            let parameters = (1..=20)
                .rev()
                .find(|n| statement.sql.contains(&format!("${n}")))
                .unwrap_or(0);
            let written = inline(statement.sql, &vec!["null"; parameters]).unwrap();
            assert!(!written.contains('$'), "{}: {written}", statement.name);
        }
    }
}
