//! Nodes in several processes, joined by MPI.
//!
//! | file | what |
//! |---|---|
//! | `world.rs`, `flags.rs` | this process among all: started once, ended with the process |
//! | `courier.rs`, `orders.rs` | the one thread that owns MPI, and what others want of it |
//! | `ending.rs` | how trainers, processes and jobs end |
//! | `mail.rs`, `gather.rs` | messages of nodes on their way; what all bring together |
//! | `room.rs`, `peers.rs` | a trainer; the other processes |
//! | `link.rs`, `numbers.rs` | a node's end, and the tags of its messages |
//! | `raw.rs` | the calls of MPI |

mod courier;
mod ending;
mod flags;
mod gather;
mod link;
mod mail;
mod numbers;
mod orders;
mod peers;
mod raw;
mod room;
mod world;

pub(crate) use world::{Session, World, world};
