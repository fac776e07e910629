//! What a claim is proved with: the session, the channel, the delivery tag, and a number that cannot be guessed.
//!
//! Delivery tags are counted from 1 on every channel, so a tag alone would name another job after each reconnect. The
//! generation counts the channels of a session: a claim of an earlier one is lost, because the server has given
//! everything that was not acknowledged there to others.

use std::hash::{BuildHasher, RandomState};

use goose_core::JobId;
use goose_core::broker::Receipt;

/// Makes and checks the receipts of one session.
#[derive(Debug)]
pub(super) struct Seal {
    nonce: u64,
    /// Keyed by the operating system: whoever has seen some receipts cannot make others.
    key: RandomState,
}

/// What a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimed {
    pub(super) generation: u64,
    pub(super) tag: u64,
}

impl Seal {
    pub(super) fn new() -> Self {
        // The last half of an id is random.
        let id = u128::from_be_bytes(*JobId::new().as_bytes());
        let [.., nonce] = [id >> 64, id & u128::from(u64::MAX)];
        Self { nonce: u64::try_from(nonce).unwrap_or_default(), key: RandomState::new() }
    }

    pub(super) fn receipt(&self, generation: u64, tag: u64) -> Receipt {
        Receipt::new([self.nonce, generation, tag, self.key.hash_one((generation, tag))])
    }

    /// Reads a receipt; `None` for one of another session, or of nobody.
    pub(super) fn read(&self, receipt: &Receipt) -> Option<Claimed> {
        let [nonce, generation, tag, proof] = receipt.words();
        let genuine = nonce == self.nonce && proof == self.key.hash_one((generation, tag));
        genuine.then_some(Claimed { generation, tag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_receipts_are_read() {
        let (seal, other) = (Seal::new(), Seal::new());
        let receipt = seal.receipt(3, 17);
        assert_eq!(seal.read(&receipt), Some(Claimed { generation: 3, tag: 17 }));
        assert_eq!(other.read(&receipt), None);
        for word in 0..4 {
            let mut words = receipt.words();
            words[word] = words[word].wrapping_add(1);
            assert_eq!(seal.read(&Receipt::new(words)), None, "word {word} was changed");
        }
        assert_eq!(seal.read(&Receipt::new([0; 4])), None);
    }

    #[test]
    fn a_claim_of_another_channel_has_another_receipt() {
        let seal = Seal::new();
        assert_ne!(seal.receipt(1, 1), seal.receipt(2, 1));
        assert_ne!(seal.receipt(1, 1), seal.receipt(1, 2));
    }
}
