//! Writes questions, answers and the photos of answers.

use super::{
    file::FileWriter,
    plan::{Kind, Plan},
    reviews::{moment, photo, votes},
    text::{self, Person, Texts},
};
use crate::error::Result;

/// Answers that are mixed up among themselves: they do not stand in the order of their questions.
const MIXED: usize = 1024;
/// Has no divisor in common with [`MIXED`], so that steps of this length meet every answer once.
const MIXED_STEP: usize = 389;

pub(super) fn questions(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Questions);
    for product in 0..plan.products {
        for _ in 0..counts.next() {
            file.row(
                plan.id(Kind::Products, product),
                |line, dice, id, product_id| {
                    let person = Person::draw(dice);
                    line.id(id);
                    line.number(product_id);
                    line.quoted(|out| {
                        text::question(out, dice);
                        if dice.one_in(3) {
                            out.push(b' ');
                            text::question(out, dice);
                        }
                    });
                    line.date(moment(dice), dice);
                    line.quoted(|out| person.name(out));
                    line.quoted(|out| person.email(out));
                    line.boolean(dice.one_in(10), false, dice);
                    line.number(votes(dice));
                },
            )?;
        }
    }
    Ok(())
}

pub(super) fn answers(plan: &Plan, texts: &Texts, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Answers);
    let mut questions = Vec::with_capacity(MIXED);
    for question in 0..plan.rows(Kind::Questions) {
        for _ in 0..counts.next() {
            questions.push(plan.id(Kind::Questions, question));
            if questions.len() == MIXED {
                write_mixed(texts, file, &mut questions)?;
            }
        }
    }
    write_mixed(texts, file, &mut questions)
}

fn write_mixed(texts: &Texts, file: &mut FileWriter<'_>, questions: &mut Vec<u64>) -> Result<()> {
    for step in 0..MIXED {
        let Some(question) = questions.get(step * MIXED_STEP % MIXED) else {
            continue;
        };
        file.row(*question, |line, dice, id, question_id| {
            let person = Person::draw(dice);
            line.id(id);
            line.number(question_id);
            line.quoted(|out| {
                let length = text::length(dice, 90);
                texts.body(out, dice, length);
            });
            line.date(moment(dice), dice);
            line.quoted(|out| person.name(out));
            line.quoted(|out| person.email(out));
            line.boolean(dice.one_in(12), false, dice);
            line.number(votes(dice));
        })?;
    }
    questions.clear();
    Ok(())
}

pub(super) fn photos(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::AnswerPhotos);
    for answer in 0..plan.rows(Kind::Answers) {
        for _ in 0..counts.next() {
            file.row(plan.id(Kind::Answers, answer), photo)?;
        }
    }
    Ok(())
}
