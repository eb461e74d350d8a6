//! The origin's writes, and the read of a cart, with arguments drawn at random, for measurements without the origin.

use crate::dice::Dice;

/// The largest ids there are.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    /// Of the products.
    pub product: u32,
    /// Of the skus.
    pub sku: u32,
    /// Of the reviews.
    pub review: u32,
    /// Of the questions.
    pub question: u32,
    /// Of the answers.
    pub answer: u32,
}

/// What a request does, and the statement that it is.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// Method and path.
    pub label: &'static str,
    /// The statement's name.
    pub statement: &'static str,
    /// Its arguments as SQL; capitals in braces stand for ids.
    arguments: &'static str,
}

/// All of them, without an Idempotency-Key.
pub const WRITES: [Write; 12] = [
    write(
        "POST /reviews, photo",
        "reviews.create",
        "null, null, null, {P}, 5, 's', 'b', true, 'n', 'e', '{u}', '{}', '{}'",
    ),
    write("PUT /reviews/{id}/helpful", "reviews.mark_helpful", "{R}"),
    write("PUT /reviews/{id}/report", "reviews.report", "{R}"),
    write(
        "POST /qa/questions",
        "questions.create",
        "null, null, null, {P}, 'b', 'n', 'e'",
    ),
    write(
        "PUT /qa/questions/{id}/helpful",
        "questions.mark_helpful",
        "{Q}",
    ),
    write("PUT /qa/questions/{id}/report", "questions.report", "{Q}"),
    write(
        "POST /qa/questions/{id}/answers, photo",
        "answers.create",
        "null, null, null, {Q}, 'b', 'n', 'e', '{u}'",
    ),
    write(
        "PUT /qa/answers/{id}/helpful",
        "answers.mark_helpful",
        "{A}",
    ),
    write("PUT /qa/answers/{id}/report", "answers.report", "{A}"),
    write(
        "POST /cart",
        "cart.add",
        "null, null, null, sha256('{P}'), {S}, 1",
    ),
    write("GET /cart", "cart.list", "sha256('{P}')"),
    write(
        "POST /interactions",
        "interactions.create",
        "null, null, null, 'e', 'w', 't'",
    ),
];

const fn write(label: &'static str, statement: &'static str, arguments: &'static str) -> Write {
    Write {
        label,
        statement,
        arguments,
    }
}

impl Write {
    /// Arguments with ids drawn at random, from the last tenth only if so asked.
    pub fn draw(&self, dice: &mut Dice, last: Last, is_of_last_tenth: bool) -> String {
        let mut drawn = self.arguments.to_owned();
        for (place, last) in [
            ("{P}", last.product),
            ("{S}", last.sku),
            ("{R}", last.review),
            ("{Q}", last.question),
            ("{A}", last.answer),
        ] {
            let first = if is_of_last_tenth {
                last - last / 10
            } else {
                1
            };
            drawn = drawn.replace(place, &dice.between(first, last).to_string());
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_ids_in_range_and_leave_arrays_alone() {
        let last = Last {
            product: 10,
            sku: 20,
            review: 30,
            question: 40,
            answer: 50,
        };
        let mut dice = Dice::new(1);
        for write in WRITES {
            let drawn = write.draw(&mut dice, last, true);
            assert!(!drawn.contains(['P', 'S', 'R', 'Q', 'A']), "{drawn}");
            crate::statement::text(write.statement).unwrap();
        }
        let answer: u32 = WRITES[7].draw(&mut dice, last, true).parse().unwrap();
        assert!((45..=50).contains(&answer));
        assert!(WRITES[0].draw(&mut dice, last, false).contains("'{u}'"));
    }
}
