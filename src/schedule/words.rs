//! Numbers with what they count.

use std::fmt::Display;

/// `1 node`, `2 nodes`, `2 micro-batches`.
pub(crate) fn counted(count: impl Display, what: &str) -> String {
    let count = count.to_string();
    let ending = match (count.as_str(), what.ends_with("ch")) {
        ("1", _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {what}{ending}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_not_many() {
        let words = [
            counted(1, "node"),
            counted(0, "chunk"),
            counted(2, "micro-batch"),
        ];
        assert_eq!(words, ["1 node", "0 chunks", "2 micro-batches"]);
    }
}
