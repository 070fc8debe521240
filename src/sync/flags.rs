//! What any node may want all to know at the end of a training step. It rides in the exchange, so
//! that all decide alike at the same step without a message of its own.

use crate::error::Cause;
use crate::plan::FLAG_SCALARS;

/// What a node has to say at the end of a step; folded, what all have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Somebody wants to stop after this step.
    pub(crate) stop: bool,
    /// How far a checkpoint is.
    pub(crate) saving: Saving,
}

/// The state of a checkpoint that is being written. Of several nodes' the greatest counts: it is
/// under way until nobody is at it, and done if it failed nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Saving {
    /// There is none.
    #[default]
    None,
    /// It is written.
    Done,
    /// It could not be written.
    Failed,
    /// It is being written.
    Busy,
}

impl Saving {
    const ALL: [Self; 4] = [Self::None, Self::Done, Self::Failed, Self::Busy];
}

impl Flags {
    /// What both say together, in any order.
    pub(crate) fn fold(self, other: Self) -> Self {
        Self {
            stop: self.stop || other.stop,
            saving: self.saving.max(other.saving),
        }
    }

    /// As they travel.
    pub(crate) fn scalars(self) -> [f64; FLAG_SCALARS] {
        [f64::from(u8::from(self.stop)), f64::from(self.saving as u8)]
    }

    /// Reads what [`Flags::scalars`] made.
    pub(crate) fn read(scalars: &[f64]) -> Result<Self, Cause> {
        let known = |scalar: f64| {
            Saving::ALL
                .into_iter()
                .find(|s| f64::from(*s as u8) == scalar)
        };
        let flags = match *scalars {
            [stop, saving] => known(saving).map(|saving| (stop != 0.0, saving)),
            _ => None,
        };
        let (stop, saving) = flags.ok_or_else(|| Cause::Bug(format!("flags of {scalars:?}")))?;
        Ok(Self { stop, saving })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Flags> + Clone {
        let of = |stop| Saving::ALL.map(|saving| Flags { stop, saving });
        [false, true].into_iter().flat_map(of)
    }

    #[test]
    fn flags_survive_their_journey() {
        for flags in all() {
            assert_eq!(Flags::read(&flags.scalars()), Ok(flags));
        }
        for wrong in [&[][..], &[0.0], &[0.0, 4.0], &[0.0, f64::NAN], &[0.0; 3]] {
            assert!(Flags::read(wrong).is_err(), "{wrong:?}");
        }
    }

    /// One that wants to stop stops all; who is still at it, then who failed, then who is done
    /// counts. Neither the order nor nodes without anything to say change that.
    #[test]
    fn flags_of_nodes_fold_into_one() {
        use Saving::{Busy, Done, Failed, None};
        let saving = |a: Saving, b: Saving| {
            let of = |saving| Flags {
                stop: false,
                saving,
            };
            of(a).fold(of(b)).saving
        };
        for other in Saving::ALL {
            assert_eq!(saving(Busy, other), Busy);
            assert_eq!(saving(other, None), other);
        }
        assert_eq!(saving(Done, Failed), Failed);
        assert_eq!(saving(Done, Done), Done);
        for one in all() {
            assert_eq!(one.fold(Flags::default()), one);
            for other in all() {
                assert_eq!(one.fold(other), other.fold(one));
                assert_eq!(one.fold(other).stop, one.stop || other.stop);
                for third in all() {
                    let (left, right) = (one.fold(other).fold(third), one.fold(other.fold(third)));
                    assert_eq!(left, right);
                }
            }
        }
    }
}
