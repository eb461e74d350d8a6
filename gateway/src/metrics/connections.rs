//! Client connections that were refused or cut: how many, and for what.

use prometheus::{IntCounter, Registry};

use super::counters;

/// Why a connection was refused or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It was one too many.
    Full,
    /// The process had hardly a descriptor left.
    Descriptors,
    /// It made no TLS handshake.
    Handshake,
    /// Its header did not come in time.
    HeaderLate,
    /// Its request line did not end.
    TargetSize,
    /// Its header did not end.
    HeaderSize,
    /// Its request line could be read in two ways.
    RequestLine,
    /// A line of its header did not end as lines do.
    LineEnd,
    /// The chunks of its body could be read in two ways.
    Chunks,
    /// Its body came too slowly.
    BodySlow,
    /// It took its answer too slowly.
    AnswerSlow,
}

impl Cut {
    /// All of them with their names, in the order of the declaration.
    const ALL: [(Self, &'static str); 11] = [
        (Self::Full, "full"),
        (Self::Descriptors, "descriptors"),
        (Self::Handshake, "handshake"),
        (Self::HeaderLate, "header-late"),
        (Self::TargetSize, "target-size"),
        (Self::HeaderSize, "header-size"),
        (Self::RequestLine, "request-line"),
        (Self::LineEnd, "line-end"),
        (Self::Chunks, "chunks"),
        (Self::BodySlow, "body-slow"),
        (Self::AnswerSlow, "answer-slow"),
    ];
}

/// A counter for each reason; there are no others, so their number is bounded.
pub struct ConnectionMetrics {
    cuts: [IntCounter; Cut::ALL.len()],
}

impl ConnectionMetrics {
    /// Counters at zero.
    ///
    /// # Errors
    /// Two metrics of one name.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let cuts = counters(
            registry,
            "gateway_connections_cut_total",
            "Client connections refused or cut, by reason",
            "reason",
        )?;
        Ok(Self {
            cuts: Cut::ALL.map(|(_, name)| cuts.with_label_values(&[name])),
        })
    }

    /// Counts one.
    pub fn note(&self, cut: Cut) {
        self.cuts[cut as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        for (at, (cut, _)) in Cut::ALL.iter().enumerate() {
            assert_eq!(*cut as usize, at);
        }
    }
}
