//! A drill: a node's link is cut off on purpose, to see what a run makes of it. `BRIGADE_DRILL`
//! says which node and after how many messages, as 1:500; it happens once.

use crate::Fault;
use crate::cli::failure::Failure;

const VARIABLE: &str = "BRIGADE_DRILL";

/// What is to fail, if anything.
pub(super) fn wanted(nodes: usize) -> Result<Option<Fault>, Failure> {
    let Ok(text) = std::env::var(VARIABLE) else {
        return Ok(None);
    };
    let parts = text.split_once(':');
    let parts = parts.and_then(|(node, sends)| Some((node.parse().ok()?, sends.parse().ok()?)));
    match parts {
        Some((node, after_sends)) if node < nodes => Ok(Some(Fault { node, after_sends })),
        _ => Err(Failure::Usage(format!(
            "{VARIABLE} is {text}; it must be a node below {nodes} and a number of messages, as \
             1:500"
        ))),
    }
}
