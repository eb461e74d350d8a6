//! Words, names and sentences. Sentences are made once and then copied: that is what makes
//! gigabytes of text cheap.

use super::plan::{Dice, Plan, Stream};

/// Sentences to choose from.
const SENTENCES: usize = 4096;

const OPENINGS: [&str; 16] = [
    "I really like",
    "Honestly, we love",
    "My sister adores",
    "Not sure about",
    "After two weeks, I still enjoy",
    "Everybody asks about",
    "I can't recommend",
    "You won't regret",
    "It's all about",
    "Nobody at work believed in",
    "The postman admired",
    "For the price I expected more of",
    "Just wow:",
    "My #1 reason to buy was",
    "Compared with my old one, I prefer",
    "The \"\"premium\"\" tag fits",
];
const SUBJECTS: [&str; 20] = [
    "the fabric",
    "the way it fits",
    "how light it is",
    "the stitching",
    "these colours",
    "the zipper",
    "its weight",
    "the lining",
    "the soft sole",
    "how it washes",
    "the pockets",
    "this shade of green",
    "the strap",
    "the packaging",
    "the small café-style print",
    "how naïve the pattern looks",
    "the waterproof coat",
    "the heel",
    "that buckle",
    "the sleeves",
];
const ENDINGS: [&str; 16] = [
    "and would buy it again.",
    "but it runs a little small.",
    "even after many washes.",
    "so I gave it five stars.",
    "although shipping took a while.",
    "and my friends agree.",
    "in the rain, in the sun, anywhere.",
    "which is rare these days!",
    "but the colour faded.",
    "and it hasn't let me down.",
    "for a day at the beach.",
    "so far, so good.",
    "and it feels like nothing at all.",
    "though it's not for everyone.",
    "\u{1f44d}",
    "– exactly as described.",
];
const QUESTIONS: [&str; 12] = [
    "Does this run small?",
    "What's it made of?",
    "Can I wash it at 40 degrees?",
    "Is it true to size, or should I go up?",
    "How long does shipping take?",
    "Where is this product made?",
    "Will it be back in size M?",
    "Is the #2 colour darker?",
    "Does the \"\"slim\"\" version fit wide feet?",
    "Can you return it after 30 days?",
    "Why is it so expensive?",
    "Would you recommend it for winter?",
];
const ADJECTIVES: [&str; 24] = [
    "Camo",
    "Bright Future",
    "Morning",
    "Heir Force",
    "Pumped Up",
    "Summer",
    "YEasy",
    "Infinity",
    "Slacker's",
    "Blues",
    "Midnight",
    "Alpine",
    "Quiet",
    "Velvet",
    "Urban",
    "Copper",
    "Faded",
    "Rapid",
    "Gentle",
    "Stormy",
    "Paper",
    "Golden",
    "Dusty",
    "Nomad",
];
const NOUNS: [&str; 20] = [
    "Onesie",
    "Sunglasses",
    "Joggers",
    "Ones",
    "Kicks",
    "Shoes",
    "350",
    "Stone",
    "Slacks",
    "Suede Shoes",
    "Jacket",
    "Parka",
    "Scarf",
    "Beanie",
    "Shirt",
    "Skirt",
    "Backpack",
    "Watch",
    "Belt",
    "Socks, 3 Pairs",
];
const FIRST_NAMES: [&str; 24] = [
    "anna", "bob", "carla", "dmitri", "elif", "frank", "grace", "hugo", "ines", "jamal", "kira",
    "liam", "mei", "noor", "otto", "priya", "quinn", "rosa", "sven", "tariq", "uma", "viktor",
    "wanda", "zoe",
];
const LAST_NAMES: [&str; 16] = [
    "miller", "o'neill", "garcia", "novak", "schmidt", "tanaka", "rossi", "kowalski", "silva",
    "haddad", "berg", "lind", "moreau", "kaya", "singh", "brown",
];

/// The text of a data set.
#[derive(Debug)]
pub(super) struct Texts {
    /// Sentences as they stand between the quotes of a field: quotes are doubled.
    sentences: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut dice = Dice::new(plan.seed, Stream::Texts as u64);
        let mut texts = Self {
            sentences: Vec::new(),
            ends: vec![0],
        };
        for _ in 0..SENTENCES {
            let (opening, subject, ending) = (
                dice.pick(&OPENINGS),
                dice.pick(&SUBJECTS),
                dice.pick(&ENDINGS),
            );
            for part in [opening, " ", subject, " ", ending] {
                texts.sentences.extend_from_slice(part.as_bytes());
            }
            texts.ends.push(texts.sentences.len());
        }
        texts
    }

    fn sentence(&self, dice: &mut Dice) -> &[u8] {
        let number = dice.below(SENTENCES as u32) as usize;
        &self.sentences[self.ends[number]..self.ends[number + 1]]
    }

    /// Sentences up to about so many bytes.
    pub(super) fn body(&self, out: &mut Vec<u8>, dice: &mut Dice, bytes: usize) {
        let end = out.len() + bytes;
        out.extend_from_slice(self.sentence(dice));
        while out.len() < end {
            out.push(if dice.one_in(40) { b'\n' } else { b' ' });
            out.extend_from_slice(self.sentence(dice));
        }
    }
}

/// How long a text is: most are short, a few very long, one in 500 longer than the API would take.
pub(super) fn length(dice: &mut Dice, usual: u32) -> usize {
    let bits = dice.bits();
    let length = match bits % 500 {
        0 => 1200 + (bits >> 16) % 2000,
        1..=60 => usual + (bits >> 16) % (4 * usual),
        _ => (bits >> 16) % (usual + usual / 2),
    };
    length as usize
}

pub(super) fn question(out: &mut Vec<u8>, dice: &mut Dice) {
    out.extend_from_slice(dice.pick(&QUESTIONS).as_bytes());
}

pub(super) fn product_name(out: &mut Vec<u8>, dice: &mut Dice) {
    out.extend_from_slice(dice.pick(&ADJECTIVES).as_bytes());
    out.push(b' ');
    out.extend_from_slice(dice.pick(&NOUNS).as_bytes());
}

/// A name such as people choose, and the mail address that goes with it: with few of them, so that
/// some come back.
pub(super) struct Person {
    first: &'static str,
    last: &'static str,
    number: u32,
}

impl Person {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        Self {
            first: dice.pick(&FIRST_NAMES),
            last: dice.pick(&LAST_NAMES),
            number: dice.below(100),
        }
    }

    pub(super) fn name(&self, out: &mut Vec<u8>) {
        for part in [self.first, ".", self.last] {
            out.extend_from_slice(part.as_bytes());
        }
        self.number(out);
    }

    pub(super) fn email(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.first.as_bytes());
        self.number(out);
        out.extend_from_slice(b"@example.com");
    }

    fn number(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[
            b'0' + (self.number / 10) as u8,
            b'0' + (self.number % 10) as u8,
        ]);
    }
}

/// The address of a picture, as those of picture services look.
pub(super) fn url(out: &mut Vec<u8>, dice: &mut Dice, width: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"https://images.example.com/photo-15");
    for (count, separator) in [(11, b'-'), (12, b'?')] {
        let mut bits = u64::from(dice.bits()) << 32 | u64::from(dice.bits());
        for _ in 0..count {
            out.push(HEX[(bits & 15) as usize]);
            bits >>= 4;
        }
        out.push(separator);
    }
    for part in ["ixlib=rb-1.2.1&auto=format&fit=crop&w=", width, "&q=80"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// A picture within its own address.
pub(super) fn data_url(out: &mut Vec<u8>, dice: &mut Dice) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.extend_from_slice(b"data:image/jpeg;base64,");
    for _ in 0..800 + dice.below(800) {
        let bits = dice.bits();
        out.extend([0, 6, 12, 18].map(|shift| DIGITS[(bits >> shift & 63) as usize]));
    }
}
