//! How the program ends where several processes run it: the first one says what went wrong, once.

use crate::process::{self, Processes};
use std::time::Duration;

/// The errors that this process is to print, one line each.
pub(super) fn lines(own: Option<String>) -> Vec<String> {
    if process::count() == 1 {
        return own.into_iter().collect();
    }
    let rank = process::rank();
    let ends = Processes::meet(WELL).map(|processes| processes.end(own.clone()));
    match ends {
        Ok(Ok(_)) if rank > 0 => Vec::new(),
        Ok(Ok(ends)) => once(ends),
        // Where it cannot be told, the first process and whoever knows more speaks for himself.
        Ok(Err(_)) => own
            .into_iter()
            .map(|own| format!("rank {rank}: {own}"))
            .collect(),
        Err(_) if rank > 0 && process::nobody_can_meet() => Vec::new(),
        // Some wait for others that do not come: the first one says so, most often for all, and the
        // launcher ends them.
        Err(_) => {
            if rank > 0 {
                std::thread::sleep(ALIKE);
            }
            own.into_iter().collect()
        }
    }
}

/// The deadline of a program that ends before it knows another.
const WELL: Duration = Duration::from_secs(60);
/// How long the first process has to speak for all.
const ALIKE: Duration = Duration::from_secs(1);

/// What several say alike is said once; what the first does not say, with who says it.
fn once(ends: Vec<Option<String>>) -> Vec<String> {
    let mut said: Vec<(usize, String)> = Vec::new();
    for (rank, why) in ends.into_iter().enumerate() {
        if let Some(why) = why
            && said
                .iter()
                .all(|(_, other)| !other.contains(&why) && !why.contains(other))
        {
            said.push((rank, why));
        }
    }
    let line = |(rank, why)| match rank {
        0 => why,
        _ => format!("rank {rank}: {why}"),
    };
    said.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_say_is_said_once() {
        let ends = |list: &[&str]| {
            let end = |why: &&str| (!why.is_empty()).then(|| (*why).to_owned());
            once(list.iter().map(end).collect())
        };
        assert_eq!(ends(&["", ""]), Vec::<String>::new());
        assert_eq!(ends(&["no a", "no a", "no b"]), ["no a", "rank 2: no b"]);
        assert_eq!(
            ends(&["rank 1 has ended: no a", "no a"]),
            ["rank 1 has ended: no a"]
        );
    }
}
