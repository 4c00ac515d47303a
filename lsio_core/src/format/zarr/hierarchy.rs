//! The hierarchy of a Zarr store: a group or array, the nodes inside it, and what it inherits from the groups above.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use async_trait::async_trait;
use futures::{
    StreamExt as _,
    future::{join, join_all, try_join, try_join_all},
    stream,
};

use super::{
    absent::nothing_at,
    array::array_spec,
    children::{Asked, holds_nodes, list_nodes, lists, named_nodes, warn_left_out},
    documents::{ArrayDocument, GroupDocument, Node},
    nodes::{is_denied, read_group, read_node},
};
use crate::{
    Error, Location, OpenOptions, Result,
    dataset::{ArrayContent, Content, Format, GroupContent, ZarrFormat},
};

/// Zarr, versions 2 and 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zarr;

#[async_trait]
impl Format for Zarr {
    /// Never returns `None`: where nothing is Zarr, the error tells what is there instead.
    async fn open(&self, at: &Location, options: &OpenOptions) -> Result<Option<Content>> {
        open(at, options).await.map(Some)
    }
}

/// A group, with the metadata of its direct children.
pub(super) struct Group {
    pub(super) location: Location,
    pub(super) document: GroupDocument,
    pub(super) nodes: BTreeMap<String, Node>,
}

/// An array of a group above, with its name and location.
type Inherited = (String, Location, ArrayDocument);

impl Group {
    fn content(self, inherited: Vec<Inherited>, selected: Option<String>) -> Result<GroupContent> {
        let Self { location, document, nodes } = self;
        let inherited = inherited.into_iter().filter(|(name, ..)| !nodes.contains_key(name));
        let inherited = inherited.map(|(name, at, document)| array(name, at, &document)).collect();
        let (mut arrays, mut children) = (Vec::new(), Vec::new());
        for (name, node) in nodes {
            match node {
                Node::Group(_) => children.push(name),
                Node::Array(document) => {
                    let at = location.child(&name)?;
                    arrays.push(array(name, at, &document));
                }
            }
        }
        let GroupDocument { attributes, format, .. } = document;
        Ok(GroupContent { location, attributes, format, arrays, inherited, children, selected })
    }
}

fn array(name: String, location: Location, document: &ArrayDocument) -> ArrayContent {
    let metadata = |reason| Error::Metadata { key: document.key.clone(), reason };
    ArrayContent { name, location, spec: array_spec(document).map_err(metadata) }
}

async fn open(location: &Location, options: &OpenOptions) -> Result<Content> {
    let use_consolidated = options.consolidated != Some(false);
    let (node, ancestors) =
        join(read_node(location, use_consolidated), ancestors(location, use_consolidated)).await;
    let (node, ancestors) = (node?, ancestors?);
    // A store may hold no metadata but the consolidated metadata of its root.
    let node = match node.or_else(|| consolidated_node(location, &ancestors)) {
        Some(node) => node,
        None => match implicit_group(location, &ancestors, use_consolidated).await? {
            Some(format) => Node::Group(GroupDocument::implicit(format)),
            None => return Err(nothing_at(location, &ancestors, use_consolidated).await?),
        },
    };
    if options.consolidated == Some(true) {
        let has = |document: &GroupDocument| document.consolidated.is_some();
        let own = matches!(&node, Node::Group(document) if has(document));
        if !own && !ancestors.iter().any(|(_, document)| has(document)) {
            return Err(Error::Metadata {
                key: location.name().to_owned(),
                reason:
                    "there is no consolidated metadata, which the option consolidated=true asks for"
                        .to_owned(),
            });
        }
    }
    match node {
        Node::Group(document) => {
            let asked = match &options.variables {
                Some(names) => Asked::These(names),
                None => Asked::All,
            };
            let (group, inherited) = try_join(
                expand(location, document, &ancestors, asked),
                inherited_coordinates(&ancestors),
            )
            .await?;
            Ok(Content::Group(group.content(inherited, None)?))
        }
        Node::Array(document) => {
            let mut ancestors = ancestors.into_iter();
            match (ancestors.next(), location.path().filename()) {
                (Some((parent, parent_document)), Some(name)) => {
                    let name = name.to_owned();
                    let above: Vec<_> = ancestors.collect();
                    let names = [name.clone()];
                    let (mut group, inherited) = try_join(
                        expand(&parent, parent_document, &above, Asked::These(&names)),
                        inherited_coordinates(&above),
                    )
                    .await?;
                    group.nodes.insert(name.clone(), Node::Array(document));
                    group.location = parent.clone();
                    Ok(Content::Group(group.content(inherited, Some(name))?))
                }
                _ => Ok(Content::Array(Box::new(array(
                    "value".to_owned(),
                    location.clone(),
                    &document,
                )))),
            }
        }
    }
}

/// Format of a group without metadata of its own, if there is one at a location: it is inside a store, and holds arrays
/// or groups.
pub(super) async fn implicit_group(
    location: &Location,
    ancestors: &[(Location, GroupDocument)],
    consolidated: bool,
) -> Result<Option<ZarrFormat>> {
    /// Number of levels above to look for a group with metadata.
    const LEVELS: usize = 4;

    let mut above: Option<(Location, GroupDocument)> = ancestors.first().cloned();
    if above.is_none() {
        // A location below several such groups is further from a group with metadata.
        let parents: Vec<Location> =
            iter::successors(location.parent(), Location::parent).take(LEVELS).collect();
        let reads = parents.iter().map(|parent| read_group(parent, consolidated));
        // Where latency is high, all levels are read concurrently.
        let at_once = if location.link().is_remote() { LEVELS } else { 1 };
        let mut documents = stream::iter(reads).buffered(at_once).enumerate().boxed();
        while let Some((i, document)) = documents.next().await {
            if let Ok(Some(document)) = document {
                above = parents.get(i).cloned().zip(Some(document));
                break;
            }
        }
    }
    let Some((holder, document)) = above else { return Ok(None) };
    if let Some(nodes) = &document.consolidated {
        let below = path_below(location, &holder);
        let is_inside =
            |path: &String| path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/'));
        if !below.is_empty() && nodes.keys().any(is_inside) {
            return Ok(Some(document.format));
        }
    }
    let format = document.format;
    Ok(holds_nodes(location, format).await?.then_some(format))
}

/// Path of a location relative to a group above it.
pub(super) fn path_below<'a>(location: &'a Location, holder: &Location) -> &'a str {
    let path = location.path().as_ref();
    path.strip_prefix(holder.path().as_ref()).unwrap_or("").trim_matches('/')
}

/// Node of a location in the consolidated metadata of a group above.
fn consolidated_node(location: &Location, ancestors: &[(Location, GroupDocument)]) -> Option<Node> {
    ancestors.iter().find_map(|(holder, document)| {
        let below = location.path().as_ref().strip_prefix(holder.path().as_ref())?;
        document.consolidated.as_ref()?.get(below.trim_start_matches('/')).cloned()
    })
}

/// Groups above, nearest first.
async fn ancestors(
    location: &Location,
    consolidated: bool,
) -> Result<Vec<(Location, GroupDocument)>> {
    // Where latency is high, three levels are read concurrently: two levels without a group end the search, and one
    // more may be the root of the store.
    let at_once = if location.link().is_remote() { 3 } else { 1 };
    let mut ancestors = Vec::new();
    // A group inside a store may have its metadata only in the consolidated metadata above.
    let mut skipped: Option<Location> = None;
    let mut above = iter::successors(location.parent(), Location::parent);
    loop {
        let next: Vec<Location> = above.by_ref().take(at_once).collect();
        if next.is_empty() {
            return Ok(ancestors);
        }
        let documents = join_all(next.iter().map(|parent| read_group(parent, consolidated))).await;
        for (parent, document) in next.into_iter().zip(documents) {
            match document {
                Ok(Some(document)) => {
                    let found = [(parent, document)];
                    if let Some(skipped) = skipped.take() {
                        match consolidated_node(&skipped, &found) {
                            Some(Node::Group(document)) => ancestors.push((skipped, document)),
                            _ => return Ok(ancestors),
                        }
                    }
                    ancestors.extend(found);
                }
                Ok(None) if skipped.is_none() => skipped = Some(parent),
                // The contents of this level are unknown: it may have coordinates.
                Err(error @ Error::Store { .. }) if !is_denied(&error) => return Err(error),
                // Anything above a store is ignored, even if it looks broken.
                _ => return Ok(ancestors),
            }
        }
    }
}

/// Finds the nodes inside a group: in its own consolidated metadata, in that of a group above, or by listing. Without a
/// listing, the nodes are the `asked` ones and their coordinates.
pub(super) async fn expand(
    location: &Location,
    document: GroupDocument,
    ancestors: &[(Location, GroupDocument)],
    asked: Asked<'_>,
) -> Result<Group> {
    let mut candidates = vec![(location, &document)];
    candidates.extend(ancestors.iter().map(|(location, document)| (location, document)));
    for (holder, holder_document) in candidates {
        let Some(consolidated) = &holder_document.consolidated else { continue };
        let prefix = path_below(location, holder);
        let below = |path: &'_ str| -> Option<String> {
            let below = match prefix {
                "" => path,
                prefix => path.strip_prefix(prefix)?.strip_prefix('/')?,
            };
            (!below.is_empty()).then(|| below.to_owned())
        };
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        let mut implicit: BTreeSet<String> = BTreeSet::new();
        for (path, node) in consolidated {
            let Some(path) = below(path) else { continue };
            match path.split_once('/') {
                None => drop(nodes.insert(path, node.clone())),
                Some((group, _)) if !implicit.contains(group) => {
                    implicit.insert(group.to_owned());
                }
                Some(_) => {}
            }
        }
        for (path, reason) in &holder_document.left_out {
            if let Some(name) = below(path).filter(|name| asked.names(name) && !name.contains('/'))
            {
                warn_left_out(&name, reason);
            }
        }
        // Groups without metadata of their own.
        for group in implicit {
            let format = holder_document.format;
            let node = || Node::Group(GroupDocument::implicit(format));
            nodes.entry(group).or_insert_with(node);
        }
        // A group that the metadata above lacks was added later.
        if !nodes.is_empty() || prefix.is_empty() {
            return Ok(Group { location: location.clone(), nodes, document });
        }
    }
    let names = match asked {
        Asked::All => None,
        Asked::These(names) => Some(names),
        // Without a listing, nothing can be inherited.
        Asked::None => (!lists(location)).then_some(&[][..]),
    };
    let nodes = match names {
        Some(names) if !lists(location) => named_nodes(location, names, document.format).await?,
        Some(names) => match list_nodes(location, document.format, asked).await {
            // A permission to read a bucket doesn't always include listing.
            Err(Error::Store { .. }) => named_nodes(location, names, document.format).await?,
            nodes => nodes?,
        },
        None => list_nodes(location, document.format, asked).await?,
    };
    Ok(Group { location: location.clone(), nodes, document })
}

/// Arrays of the groups above whose name could be that of a dimension; the nearest one takes precedence.
async fn inherited_coordinates(ancestors: &[(Location, GroupDocument)]) -> Result<Vec<Inherited>> {
    let groups = ancestors.iter().enumerate().map(|(i, (location, document))| {
        expand(location, document.clone(), &ancestors[i + 1..], Asked::None)
    });
    let groups = try_join_all(groups).await?;
    let mut found: Vec<Inherited> = Vec::new();
    for group in groups {
        let location = group.location;
        for (name, node) in group.nodes {
            let Node::Array(document) = node else { continue };
            if document.rank() == Some(1) && !found.iter().any(|(n, _, _)| *n == name) {
                found.push((name.clone(), location.child(&name)?, document));
            }
        }
    }
    Ok(found)
}
