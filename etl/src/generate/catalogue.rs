//! Writes products, features, styles, skus, photos and related products.

use super::{
    file::FileWriter,
    line::Line,
    plan::{Dice, Kind, Plan},
    text::{self, Texts},
};
use crate::{
    error::Result,
    reject::{Reason, Repair},
};

const CATEGORIES: [&str; 10] = [
    "Jackets",
    "Accessories",
    "Pants",
    "Kicks",
    "Dress Shoes",
    "Shirts",
    "Bags",
    "Hats",
    "Socks & Co.",
    "Watches",
];
const FEATURES: [(&str, &[&str]); 8] = [
    (
        "Fabric",
        &["Canvas", "Cotton", "100% Wool", "Suede", "Nylon, recycled"],
    ),
    ("Buttons", &["Brass", "Metal", "Wood"]),
    ("Lenses", &["Ultrasheen", "Gorilla Glass", "UV Protection"]),
    ("Sole", &["Rubber", "Rubber, 7mm"]),
    ("Cut", &["Loose", "Skinny", "Straight"]),
    (
        "Mid-Sole",
        &["ControlSupport Arch Bridge", "ControlSupport #2"],
    ),
    ("Stitching", &["Double Stitch", "Single Stitch"]),
    ("Non-GMO", &["null", "null", "Yes"]),
];
const COLOURS: [&str; 16] = [
    "Forest Green",
    "Black",
    "Desert Brown",
    "Tan",
    "Ocean Blue",
    "Grey",
    "Bright Orange",
    "Yellow",
    "Sky Blue",
    "White",
    "Dark Grey",
    "Maroon",
    "Gold",
    "Navy",
    "Men's Red",
    "Ivory, aged",
];
const SIZES: [&str; 8] = ["XS", "S", "M", "L", "XL", "XXL", "7.5", "Numbers run wide"];

pub(super) fn products(plan: &Plan, texts: &Texts, file: &mut FileWriter<'_>) -> Result<()> {
    for _ in 0..plan.rows(Kind::Products) {
        file.row(0, |line, dice, id, _| {
            line.id(id);
            line.quoted(|out| text::product_name(out, dice));
            line.quoted(|out| texts.body(out, dice, 1));
            line.quoted(|out| {
                let length = text::length(dice, 160);
                texts.body(out, dice, length);
            });
            line.text(dice.pick(&CATEGORIES));
            line.price(dollars(dice));
        })?;
    }
    Ok(())
}

/// Most things cost less than a thousand, one in a thousand a fortune.
fn dollars(dice: &mut Dice) -> u64 {
    let most = if dice.one_in(1000) { 5_000_000 } else { 999 };
    u64::from(1 + dice.below(most))
}

pub(super) fn features(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Features);
    for product in 0..plan.products {
        for _ in 0..counts.next() {
            file.row(
                plan.id(Kind::Products, product),
                |line, dice, id, product_id| {
                    let (name, values) = FEATURES[dice.below(FEATURES.len() as u32) as usize];
                    line.id(id);
                    line.number(product_id);
                    line.text(name);
                    let value = dice.pick(values);
                    if line.has(Repair::WrappedQuotes) {
                        line.quoted(|out| {
                            for part in ["\"\"", value, "\"\""] {
                                out.extend_from_slice(part.as_bytes());
                            }
                        });
                    } else if value == "null" {
                        line.raw(if dice.one_in(10) { b"" } else { b"null" });
                    } else {
                        line.text(value);
                    }
                },
            )?;
        }
    }
    Ok(())
}

pub(super) fn styles(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Styles);
    for product in 0..plan.products {
        for style in 0..counts.next() {
            file.row(
                plan.id(Kind::Products, product),
                |line, dice, id, product_id| {
                    line.id(id);
                    line.number(product_id);
                    line.quoted(|out| {
                        out.extend_from_slice(dice.pick(&COLOURS).as_bytes());
                        out.extend_from_slice(b" & ");
                        out.extend_from_slice(dice.pick(&COLOURS).as_bytes());
                    });
                    // Only one of the two prices carries the dirt of a line.
                    if line.has(Repair::ZeroSale) {
                        line.raw([b"0".as_slice(), b"\"0\""][dice.below(2) as usize]);
                    } else {
                        match dice.below(10) {
                            0 => line.raw(b""),
                            1 | 2 => line
                                .raw([b"12".as_slice(), b"35", b"\"99\""][dice.below(3) as usize]),
                            _ => line.raw(b"null"),
                        }
                    }
                    line.price(dollars(dice));
                    // One product in fifty has no default.
                    line.boolean(style == 0 && !dice.one_in(50), false, dice);
                },
            )?;
        }
    }
    Ok(())
}

pub(super) fn skus(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Skus);
    for style in 0..plan.rows(Kind::Styles) {
        for sku in 0..counts.next() {
            file.row(plan.id(Kind::Styles, style), |line, dice, id, style_id| {
                line.id(id);
                line.number(style_id);
                // Sizes repeat in a style that has more of them than there are.
                let size = SIZES[(sku as usize) % SIZES.len()];
                if dice.one_in(200) {
                    line.raw(size.as_bytes());
                } else {
                    line.text(size);
                }
                line.number(u64::from(dice.below(70)));
            })?;
        }
    }
    Ok(())
}

pub(super) fn photos(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Photos);
    for style in 0..plan.rows(Kind::Styles) {
        for _ in 0..counts.next() {
            file.row(plan.id(Kind::Styles, style), |line, dice, id, style_id| {
                line.id(id);
                line.number(style_id);
                photo_urls(line, dice);
            })?;
        }
    }
    Ok(())
}

fn photo_urls(line: &mut Line, dice: &mut Dice) {
    if let Some(way) = line.spoil(Reason::BadUrl) {
        line.raw(
            [
                b"\"htp:/images\"".as_slice(),
                b"\"https://images.example.com/a b\"",
                b"none",
                b"\"https://\"",
            ][(way % 4) as usize],
        );
        return line.quoted(|out| text::url(out, dice, "300"));
    }
    if line.has(Repair::JoinedUrls) {
        return line.quoted(|out| {
            text::url(out, dice, "2000");
            text::url(out, dice, "300");
        });
    }
    if line.has(Repair::StrayPrefix) || line.has(Repair::StrayBackslash) {
        let has_prefix = line.has(Repair::StrayPrefix);
        line.quoted(|out| {
            if has_prefix {
                out.push(b'u');
            }
            text::url(out, dice, "2000");
            if !has_prefix {
                out.insert(out.len() - 6, b'\\');
            }
        });
    } else if dice.one_in(5000) {
        line.quoted(|out| text::data_url(out, dice));
    } else if dice.one_in(500) {
        line.raw([b"null".as_slice(), b"", b"\"null\""][dice.below(3) as usize]);
    } else {
        line.quoted(|out| text::url(out, dice, "2000"));
    }
    line.quoted(|out| text::url(out, dice, "300"));
    if line.has(Repair::UnclosedQuote) {
        line.out.pop();
    }
}

pub(super) fn related(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Related);
    for product in 0..plan.products {
        let mut last = product + 1;
        for _ in 0..counts.next() {
            file.row(
                plan.id(Kind::Products, product),
                |line, dice, id, product_id| {
                    line.id(id);
                    line.number(product_id);
                    if line.spoil(Reason::RelatedZero).is_some() {
                        return line.number(0);
                    }
                    // Some are missing, some name the product itself or what was named before.
                    let related = match dice.below(200) {
                        0 => plan.products + 1 + u64::from(dice.below(1000)),
                        1 => product + 1,
                        2 => last,
                        _ => 1 + dice.below_large(plan.products),
                    };
                    last = related;
                    line.number(related);
                },
            )?;
        }
    }
    Ok(())
}
