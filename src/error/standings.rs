//! Where all nodes stood, and who held up the others.

use super::Standing;
use crate::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// No more nodes than these are shown or told to other processes.
const MOST: usize = 64;
/// Of a longer chain so many links are said at its beginning, and so many at its end.
const ENDS: (usize, usize) = (4, 2);

/// Where all nodes stood when waiting ended in vain. As text, one line a node (of more than 64
/// those that matter), then the one that holds the others up:
///
/// ```text
/// node 0  waits for node 1  60.0s               0POST_B1<1@0 [0WAIT_B0<1@0] 0B0 0F2 ...
/// node 1  works on 1F0      61.2s  1POST_F0<0@0 1WAIT_F0<0@0 [1F0] 1B0 1SEND_B0>0@0 ...
/// node 0 waits for node 1, node 1 works on 1F0 for 61.2s
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standings {
    from: NodeId,
    nodes: Vec<Standing>,
    left_out: usize,
    /// Who holds the others up.
    conclusion: String,
}

impl Standings {
    /// Of all nodes in order, for the node `from` that has noticed.
    pub(crate) fn new(from: NodeId, nodes: Vec<Standing>) -> Self {
        let mut standings = Self {
            from,
            nodes,
            left_out: 0,
            conclusion: String::new(),
        };
        standings.conclusion = standings.concluded();
        standings
    }

    /// Whether nothing is known, as after any other error.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes in order: all of them, or, where another process tells of more than 64, those that
    /// matter.
    pub fn nodes(&self) -> &[Standing] {
        &self.nodes
    }

    /// How many nodes are not among them.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Who waits for whom: this node, the one that it waits for, and so on to the one that waits
    /// for nobody.
    pub fn chain(&self, from: NodeId) -> Vec<&Standing> {
        let mut chain: Vec<&Standing> = Vec::new();
        let mut next = self.of(from);
        while let Some(standing) = next
            && !chain.iter().any(|before| before.node == standing.node)
        {
            chain.push(standing);
            next = standing.waits_for().and_then(|node| self.of(node));
        }
        chain
    }

    fn of(&self, node: NodeId) -> Option<&Standing> {
        let at = self.nodes.binary_search_by_key(&node, |other| other.node);
        at.ok().map(|at| &self.nodes[at])
    }

    /// [`Self::chain`] in words, in one line.
    pub(crate) fn chain_in_words(&self, from: NodeId) -> String {
        let chain = self.chain(from);
        let mut links: Vec<_> = chain.iter().map(ToString::to_string).collect();
        let (first, last) = (ENDS.0, links.len().saturating_sub(ENDS.1));
        if last > first + 1 {
            let more = format!("and so on through {} more", last - first);
            links.splice(first..last, [more]);
        }
        links.join(", ")
    }

    /// Few enough to be read: of many those that hold others up, and the chain from whoever
    /// noticed.
    pub(crate) fn shortened(&self) -> Self {
        if self.nodes.len() <= MOST {
            return self.clone();
        }
        let waits = |standing: &&Standing| standing.waits_for().is_some();
        let holding = self.nodes.iter().filter(|standing| !waits(standing));
        let chain = self.chain(self.from).into_iter().filter(waits);
        let mut nodes: Vec<_> = holding.chain(chain).take(MOST).cloned().collect();
        nodes.sort_by_key(|standing| standing.node);
        Self {
            from: self.from,
            left_out: self.left_out + self.nodes.len() - nodes.len(),
            nodes,
            conclusion: self.conclusion.clone(),
        }
    }

    /// Who holds the others up: at the end of the chain, or lost.
    fn concluded(&self) -> String {
        let waits = self.of(self.from).is_some_and(|s| s.waits_for().is_some());
        if waits {
            return self.chain_in_words(self.from);
        }
        let lost = self.nodes.iter().filter(|standing| standing.is_lost());
        let lost: Vec<_> = lost.take(ENDS.0).map(ToString::to_string).collect();
        lost.join(", ")
    }
}

impl fmt::Display for Standings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shortened();
        let digits = |number: Option<usize>| number.map_or(0, |number| number.to_string().len());
        let ranks = digits(shown.nodes.iter().filter_map(|node| node.rank).max());
        let nodes = digits(shown.nodes.last().map(|node| node.node.index()));
        let cells = |standing: &Standing| {
            let mut name = format!("node {:nodes$}", standing.node.get());
            if let Some(rank) = standing.rank {
                name += &format!(", rank {rank:ranks$}");
            }
            let duration = format!("{:.1?}", standing.duration());
            let (before, marked) = standing.row.split_at(standing.row.find('[').unwrap_or(0));
            [
                name,
                standing.does(),
                duration,
                before.into(),
                marked.into(),
            ]
        };
        let cells: Vec<_> = shown.nodes.iter().map(cells).collect();
        let widest = |column: usize| {
            cells
                .iter()
                .map(|cells| cells[column].chars().count())
                .max()
        };
        let [does_width, duration_width, before_width] = [1, 2, 3].map(|c| widest(c).unwrap_or(0));
        let line = |[name, does, duration, before, marked]: &[String; 5]| {
            let does = format!("{does:does_width$}  {duration:>duration_width$}");
            let line = format!("{name}  {does}  {before:>before_width$}{marked}");
            line.trim_end().to_owned()
        };
        let mut lines: Vec<_> = cells.iter().map(line).collect();
        if shown.left_out > 0 {
            lines.push(format!("and {} more nodes", shown.left_out));
        }
        lines.extend(Some(self.conclusion.clone()).filter(|conclusion| !conclusion.is_empty()));
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Doing;
    use crate::ids::PassId;
    use std::time::Duration;

    fn standing(node: usize, doing: Doing, action: &str) -> Standing {
        let action: Option<crate::schedule::Action> = action.parse().ok();
        Standing {
            node: NodeId::new(node as u32),
            rank: None,
            pass: Some(PassId::new(7)),
            entry: action.map(|_| 3),
            action,
            row: action.map_or(String::new(), |action| {
                format!("... {node}F0 [{action}] ...")
            }),
            doing,
            since: Duration::from_secs(61),
            silent: None,
            gone: false,
        }
    }

    fn waits_for(node: usize) -> Doing {
        let node = NodeId::new(node as u32);
        Doing::WaitsFor { node, more: 0 }
    }

    fn standings(nodes: Vec<Standing>) -> Standings {
        Standings::new(NodeId::new(0), nodes)
    }

    #[test]
    fn the_picture_is_a_line_a_node_and_who_holds_the_others_up() {
        let mut nodes = vec![
            standing(0, waits_for(1), "0WAIT_B0<1@0"),
            standing(1, waits_for(10), "EXCHANGE"),
        ];
        nodes.extend((2..9).map(|node| standing(node, Doing::BetweenPasses, "")));
        nodes.push(standing(9, Doing::Begins, ""));
        nodes.push(standing(10, Doing::Works, "10F2"));
        nodes.drain(3..9);
        let picture = "\
node  0  waits for node 1   61.0s   ... 0F0 [0WAIT_B0<1@0] ...
node  1  waits for node 10  61.0s   ... 1F0 [EXCHANGE] ...
node  2  is between passes  61.0s
node  9  reads data         61.0s
node 10  works on 10F2      61.0s  ... 10F0 [10F2] ...
node 0 waits for node 1, node 1 waits for node 10, node 10 works on 10F2 for 61.0s";
        assert_eq!(standings(nodes).to_string(), picture);
    }

    #[test]
    fn ranks_are_named_and_who_is_lost_is_said() {
        let mut nodes = vec![
            standing(0, waits_for(1), "0WAIT_B0<1@0"),
            standing(1, waits_for(2), "1WAIT_B0<2@1"),
            standing(2, Doing::Works, "STEP"),
        ];
        for (rank, standing) in nodes.iter_mut().enumerate() {
            standing.rank = Some(rank);
        }
        nodes[1].silent = Some(Duration::from_millis(2100));
        nodes[2].gone = true;
        let picture = "\
node 0, rank 0  waits for node 1  61.0s  ... 0F0 [0WAIT_B0<1@0] ...
node 1, rank 1  is silent          2.1s  ... 1F0 [1WAIT_B0<2@1] ...
node 2, rank 2  is gone           61.0s  ... 2F0 [STEP] ...
";
        let waiting =
            "node 0 waits for node 1, node 1 is silent for 2.1s: stopped, or its machine is lost";
        assert_eq!(
            standings(nodes.clone()).to_string(),
            format!("{picture}{waiting}")
        );
        // One that waits for no node, but for a process to come.
        nodes[0].doing = Doing::BetweenPasses;
        let lost = "\nnode 1 is silent for 2.1s: stopped, or its machine is lost, node 2 is gone";
        let text = standings(nodes).to_string();
        assert!(text.ends_with(lost), "{text}");
    }

    #[test]
    fn of_many_nodes_those_that_matter_are_shown() {
        let mut nodes: Vec<_> = (0..200)
            .map(|node| standing(node, waits_for(150), "0WAIT_B0<1@0"))
            .collect();
        nodes[0].doing = waits_for(99);
        nodes[99].doing = waits_for(150);
        nodes[150] = standing(150, Doing::Works, "150F2");
        nodes[180] = standing(180, Doing::BetweenPasses, "");
        let all = standings(nodes);
        let text = all.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4 + 2, "{text}");
        for (line, node) in lines.iter().zip([0, 99, 150, 180]) {
            assert!(line.starts_with(&format!("node {node:3}  ")), "{text}");
        }
        assert_eq!(lines[4], "and 196 more nodes");
        let chain = "node 0 waits for node 99, node 99 waits for node 150, node 150 works on 150F2 for 61.0s";
        assert_eq!(lines[5], chain);
        let told = all.shortened();
        assert_eq!((told.nodes().len(), told.left_out()), (4, 196));
        assert_eq!(told.to_string(), text, "told, it is the same");
        let lost = (0..200).map(|node| standing(node, Doing::Works, "0F0"));
        let told = standings(lost.collect()).shortened();
        assert_eq!((told.nodes().len(), told.left_out()), (MOST, 200 - MOST));
    }

    /// Nodes in a row, each waiting for the next, the last one at work.
    #[test]
    fn who_holds_up_a_long_row_is_told() {
        let mut nodes: Vec<_> = (0..200)
            .map(|node| standing(node, waits_for(node + 1), "0WAIT_B0<1@0"))
            .collect();
        nodes[199] = standing(199, Doing::Works, "199F0");
        let told = standings(nodes).shortened();
        assert_eq!(told.nodes().len(), MOST);
        let end = "node 198 waits for node 199, node 199 works on 199F0 for 61.0s";
        assert!(told.to_string().ends_with(end), "{told}");
    }

    #[test]
    fn a_long_chain_is_said_from_its_ends_and_a_ring_ends() {
        let ring = |nodes: usize| {
            let wait = |node| standing(node, waits_for((node + 1) % nodes), "0WAIT_B0<1@0");
            standings((0..nodes).map(wait).collect())
        };
        let from = NodeId::new(0);
        let said = "node 0 waits for node 1, node 1 waits for node 2, node 2 waits for node 3, \
                    node 3 waits for node 4, and so on through 14 more, node 18 waits for node 19, \
                    node 19 waits for node 0";
        assert_eq!(ring(20).chain_in_words(from), said);
        assert_eq!(ring(20).chain(from).len(), 20);
        assert!(!ring(7).chain_in_words(from).contains("and so on"));
    }
}
