//! The other processes: what is said to them and heard of them.

use super::raw::{Comm, Moving, MpiError};
use crate::wire::codec;
use crate::wire::control::{MOST_WORD_BYTES, Word};
use std::time::{Duration, Instant};

/// Another process, or this one.
struct Peer {
    heard: Instant,
    words: Option<Moving<Vec<u8>>>,
    /// A beat that has not left yet: no further one is sent meanwhile.
    beat: Option<Moving<Vec<u8>>>,
    left: bool,
}

/// All processes.
pub(super) struct Peers {
    control: Comm,
    rank: usize,
    peers: Vec<Peer>,
    saying: Vec<Moving<Vec<u8>>>,
}

impl Peers {
    pub(super) fn new(control: Comm, rank: usize, size: usize) -> Result<Self, MpiError> {
        let mut peers = Vec::new();
        for peer in 0..size {
            let words = (peer != rank).then(|| listen(control, peer)).transpose()?;
            peers.push(Peer {
                heard: Instant::now(),
                words,
                beat: None,
                left: peer == rank,
            });
        }
        Ok(Self {
            control,
            rank,
            peers,
            saying: Vec::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// For how long nothing was heard of each; of one that has said goodbye nothing is expected.
    pub(super) fn silent(&self) -> Vec<Option<Duration>> {
        let silent = |peer: &Peer| (!peer.left).then(|| peer.heard.elapsed());
        self.peers.iter().map(silent).collect()
    }

    /// All were there until now.
    pub(super) fn forgive(&mut self) {
        for peer in &mut self.peers {
            peer.heard = Instant::now();
        }
    }

    pub(super) fn all_left(&self) -> bool {
        self.peers.iter().all(|peer| peer.left)
    }

    /// What others have said since.
    pub(super) fn listen_on(&mut self) -> Result<Vec<(usize, Word)>, MpiError> {
        let mut heard = Vec::new();
        for (rank, peer) in self.peers.iter_mut().enumerate() {
            while let Some(mut words) = peer.words.take() {
                if !words.done()? {
                    peer.words = Some(words);
                    break;
                }
                let Ok(bytes) = words.take() else { break };
                peer.heard = Instant::now();
                let word = Word::read(&bytes).map_err(MpiError)?;
                peer.left = matches!(word, Word::Bye);
                if !peer.left {
                    peer.words = Some(listen(self.control, rank)?);
                }
                heard.push((rank, word));
            }
        }
        Ok(heard)
    }

    /// Says that this process is there, to whoever has heard the last time.
    pub(super) fn beat(&mut self, word: &Word) -> Result<(), MpiError> {
        let word = codec::pack(word);
        for (rank, peer) in self.peers.iter_mut().enumerate() {
            let still = match &mut peer.beat {
                Some(before) => !before.done()?,
                None => false,
            };
            if !peer.left && !still {
                peer.beat = Some(self.control.send(rank, 0, word.clone())?);
            }
        }
        Ok(())
    }

    pub(super) fn say(&mut self, word: &Word) -> Result<(), MpiError> {
        let mut still = Vec::new();
        for mut said in self.saying.drain(..) {
            if !said.done()? {
                still.push(said);
            }
        }
        self.saying = still;
        let word = codec::pack(word);
        // Who has said goodbye listens until it is said to him.
        for rank in 0..self.peers.len() {
            if rank != self.rank {
                self.saying.push(self.control.send(rank, 0, word.clone())?);
            }
        }
        Ok(())
    }

    /// Whether everything that was said has left.
    pub(super) fn all_said(&mut self) -> Result<bool, MpiError> {
        let mut said = true;
        for saying in &mut self.saying {
            said &= saying.done()?;
        }
        for beat in self.peers.iter_mut().filter_map(|peer| peer.beat.as_mut()) {
            said &= beat.done()?;
        }
        Ok(said)
    }
}

fn listen(control: Comm, rank: usize) -> Result<Moving<Vec<u8>>, MpiError> {
    control.receive(rank, 0, vec![0; MOST_WORD_BYTES])
}
