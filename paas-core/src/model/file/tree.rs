//! The text as a bounded tree whose nodes know where they stand.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::report::{Report, Spot};
use super::surrogate::Surrogates;
use super::syntax::{explain, missing_space};
use crate::model::limit;
use crate::model::name::excerpt;

/// A node's number in its tree.
pub(super) type NodeId = usize;

/// How a node is reached from its parent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// It is the root, or a key.
    None,
    /// As the value of this key.
    Key(NodeId),
    /// As this item of a list.
    Item(usize),
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar { text: String, plain: bool },
    List(Vec<NodeId>),
    Map(Vec<(NodeId, NodeId)>),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) parent: Option<NodeId>,
    pub(super) step: Step,
    pub(super) spot: Spot,
    /// Reported already, so nobody looks at it again.
    pub(super) dropped: bool,
    /// An entry or item of it was dropped, so what it seems to lack may have been there.
    pub(super) incomplete: bool,
    /// Something in it, however deep, was dropped.
    pub(super) hurt: bool,
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
}

impl Tree {
    pub(super) const ROOT: NodeId = 0;

    /// The text of a scalar; empty for everything else.
    pub(super) fn text(&self, id: NodeId) -> &str {
        match &self.nodes[id].content {
            Content::Scalar { text, .. } => text,
            _ => "",
        }
    }

    /// Keys and positions from the root.
    pub(super) fn path(&self, id: NodeId) -> Vec<String> {
        let mut path = Vec::new();
        let mut at = Some(id);
        while let Some(node) = at.map(|id| &self.nodes[id]) {
            match node.step {
                Step::None => {}
                Step::Key(key) => path.push(self.text(key).to_owned()),
                Step::Item(index) => path.push(index.to_string()),
            }
            at = node.parent;
        }
        path.reverse();
        path
    }

    /// Whether it is the key of an entry.
    pub(super) fn is_key(&self, id: NodeId) -> bool {
        matches!(self.nodes[id].step, Step::None) && id != Self::ROOT
    }

    /// The deepest node on this path.
    pub(super) fn deepest(&self, path: &[String]) -> NodeId {
        let mut at = Self::ROOT;
        for part in path {
            let next = match &self.nodes[at].content {
                Content::Scalar { .. } => None,
                Content::List(items) => part.parse().ok().and_then(|index: usize| items.get(index).copied()),
                Content::Map(entries) => {
                    entries.iter().find(|(key, _)| self.text(*key) == part).map(|(_, value)| *value)
                }
            };
            let Some(next) = next else { break };
            at = next;
        }
        at
    }

    /// Where to point for this node: at a value that stands beside its key, else at the key.
    pub(super) fn spot(&self, id: NodeId) -> Spot {
        let node = &self.nodes[id];
        let Step::Key(key) = node.step else { return node.spot };
        let key = self.nodes[key].spot;
        let beside = node.spot.line == key.line && node.spot.width > 0;
        if beside && matches!(node.content, Content::Scalar { .. }) { node.spot } else { key }
    }

    /// Where the key of this node stands.
    pub(super) fn key_spot(&self, id: NodeId) -> Option<Spot> {
        match self.nodes[id].step {
            Step::Key(key) => Some(self.nodes[key].spot),
            _ => None,
        }
    }

    /// Takes a node (or the entry of a key) out. `false` for the root.
    pub(super) fn drop_node(&mut self, id: NodeId) -> bool {
        let Some(parent) = self.nodes[id].parent else { return false };
        self.nodes[id].dropped = true;
        self.nodes[parent].incomplete = true;
        let mut above = Some(parent);
        while let Some(node) = above.map(|id| &mut self.nodes[id]) {
            node.hurt = true;
            above = node.parent;
        }
        true
    }
}

/// A list or map whose end has not come yet.
struct Open {
    node: NodeId,
    /// In a map: the key that waits for its value, and whether the entry is kept.
    key: Option<(NodeId, bool)>,
    seen: HashMap<String, Spot>,
}

struct Builder<'a> {
    tree: Tree,
    open: Vec<Open>,
    documents: usize,
    surrogates: &'a Surrogates,
    report: &'a mut Report,
}

/// What ends the reading: it was reported.
struct Stop;

/// Reads the text; `None` where it cannot be read to its end or holds nothing, which `report` then says.
pub(super) fn read(text: &str, report: &mut Report) -> Option<Tree> {
    let surrogates = Surrogates::of(text);
    let mut builder =
        Builder { tree: Tree::default(), open: Vec::new(), documents: 0, surrogates: &surrogates, report };
    let mut parser = Parser::new(StrInput::new(surrogates.text(text)));
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(builder.syntax(&error)),
        };
        if step.is_err() {
            return None;
        }
    }
    if builder.tree.nodes.is_empty() {
        builder.report.add(
            Spot { line: 1, column: 1, width: 1 },
            &[],
            "the file holds no app; it begins with `app: <name>` and `services:`",
        );
        return None;
    }
    Some(builder.tree)
}

impl Builder<'_> {
    fn spot(&self, span: Span) -> Spot {
        let (line, start) = self.surrogates.position(span.start.line(), span.start.col());
        let (_, end) = self.surrogates.position(span.end.line(), span.end.col());
        let width = if span.end.line() == span.start.line() { end.saturating_sub(start) } else { usize::MAX };
        Spot { line, column: start + 1, width }
    }

    fn stop(&mut self, spot: Spot, message: impl Into<String>) -> Stop {
        let path = self.open.last().map(|open| self.tree.path(open.node)).unwrap_or_default();
        self.report.add(spot, &path, message);
        Stop
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let spot = self.spot(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.stop(spot, "a second document begins here; an app file holds one"));
                }
                Ok(())
            }
            Event::Alias(_) => self.alias(spot),
            Event::Scalar(text, style, anchor, tag) => {
                self.decoration(spot, anchor, tag.is_some());
                let plain = style == ScalarStyle::Plain;
                self.scalar(text.into_owned(), plain, spot)
            }
            Event::SequenceStart(anchor, tag) => {
                self.decoration(spot, anchor, tag.is_some());
                self.begin(Content::List(Vec::new()), spot)
            }
            Event::MappingStart(anchor, tag) => {
                self.decoration(spot, anchor, tag.is_some());
                self.begin(Content::Map(Vec::new()), spot)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                Ok(())
            }
        }
    }

    fn decoration(&mut self, spot: Spot, anchor: usize, tag: bool) {
        let path = self.open.last().map(|open| self.tree.path(open.node)).unwrap_or_default();
        if anchor > 0 {
            self.report.add(
                spot,
                &path,
                "anchors (`&name`) are not supported; write the value out where it is needed",
            );
        }
        if tag {
            self.report.add(spot, &path, "tags (`!name`) are not supported; quote a value to make it a text");
        }
    }

    fn alias(&mut self, spot: Spot) -> Result<(), Stop> {
        const MESSAGE: &str = "aliases (`*name`) are not supported; write the value out";
        if self.awaits_key() {
            return Err(self.stop(spot, MESSAGE));
        }
        let kept = self.open.last().and_then(|open| open.key).is_none_or(|(_, kept)| kept);
        let id = self.add(Content::Scalar { text: String::new(), plain: true }, spot)?;
        if kept {
            let path = self.tree.path(id);
            self.report.add(spot, &path, MESSAGE);
            self.tree.drop_node(id);
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        self.open.last().is_some_and(|open| {
            open.key.is_none() && matches!(self.tree.nodes[open.node].content, Content::Map(_))
        })
    }

    fn scalar(&mut self, text: String, plain: bool, spot: Spot) -> Result<(), Stop> {
        if !self.awaits_key() {
            return self.add(Content::Scalar { text, plain }, spot).map(drop);
        }
        if plain && text.is_empty() {
            return Err(self.stop(spot, "a key is missing before the `:`"));
        }
        let merge = plain && text == "<<";
        let id = self.push(Content::Scalar { text: text.clone(), plain }, Step::None, spot)?;
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let first = open.seen.get(&text).copied();
        open.key = Some((id, first.is_none() && !merge));
        let map = open.node;
        if let Some(first) = first {
            let path = self.tree.path(map);
            let message = format!(
                "key `{}` is given twice here; the first is in line {}, column {}",
                excerpt(&text),
                first.line,
                first.column
            );
            self.report.add(spot, &path, message);
        } else {
            open.seen.insert(text, spot);
        }
        if merge && first.is_none() {
            let path = self.tree.path(map);
            self.report.add(spot, &path, "merge keys (`<<`) are not supported; write the keys out");
            self.tree.nodes[map].incomplete = true;
        }
        Ok(())
    }

    fn begin(&mut self, content: Content, spot: Spot) -> Result<(), Stop> {
        if self.awaits_key() {
            return Err(self.stop(spot, "a key is a text, not a list or a map"));
        }
        if self.open.len() >= limit::APP_FILE_DEPTH {
            let message = format!("nested deeper than {} levels", limit::APP_FILE_DEPTH);
            return Err(self.stop(spot, message));
        }
        // The mark of a block list or map is that of its first entry; it is pointed at as a whole only by its key.
        let node = self.add(content, spot)?;
        self.open.push(Open { node, key: None, seen: HashMap::new() });
        Ok(())
    }

    fn push(&mut self, content: Content, step: Step, spot: Spot) -> Result<NodeId, Stop> {
        if self.tree.nodes.len() >= limit::APP_FILE_NODES {
            let message = format!("more than {} values", limit::APP_FILE_NODES);
            return Err(self.stop(spot, message));
        }
        let parent = self.open.last().map(|open| open.node);
        let node = Node { content, parent, step, spot, dropped: false, incomplete: false, hurt: false };
        self.tree.nodes.push(node);
        Ok(self.tree.nodes.len() - 1)
    }

    /// Adds a value where the open list or map expects one.
    fn add(&mut self, content: Content, spot: Spot) -> Result<NodeId, Stop> {
        let key = self.open.last_mut().and_then(|open| open.key.take());
        let step = match (key, self.open.last().map(|open| &self.tree.nodes[open.node].content)) {
            (Some((key, _)), _) => Step::Key(key),
            (None, Some(Content::List(items))) => Step::Item(items.len()),
            (None, _) => Step::None,
        };
        let id = self.push(content, step, spot)?;
        if let Some(parent) = self.tree.nodes[id].parent {
            match (&mut self.tree.nodes[parent].content, key) {
                (Content::List(items), _) => items.push(id),
                (Content::Map(entries), Some((key, true))) => entries.push((key, id)),
                _ => {}
            }
        }
        Ok(id)
    }

    fn syntax(&mut self, error: &ScanError) -> Stop {
        let mark: &Marker = error.marker();
        let (line, column) = self.surrogates.position(mark.line(), mark.col());
        let mut spot = Spot { line, column: column + 1, width: 1 };
        let mut message = explain(error.info());
        // `run:./web` reads on into the next line, and only there a `:` is one too many.
        if error.info().contains("mapping values")
            && line > 1
            && let Some(column) = missing_space(self.report.line(line - 1))
        {
            spot = Spot { line: line - 1, column, width: 1 };
            "a space is missing after the `:`".clone_into(&mut message);
        }
        self.stop(spot, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_path() {
        let text = "a: 1\nb:\n  - x\n  - {c: [1, 2]}\n";
        let mut report = Report::new("f", text);
        let tree = read(text, &mut report).unwrap();
        let path: Vec<String> = ["b", "1", "c", "0"].map(str::to_owned).into();
        let node = tree.deepest(&path);
        assert_eq!(tree.text(node), "1");
        assert_eq!(tree.path(node), path);
        assert_eq!((tree.nodes[node].spot.line, tree.nodes[node].spot.column), (4, 10));
    }
}
