//! What a Zarr group holds, as xarray understands it: dimensions, coordinates, data variables.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    sync::Arc,
};

use futures::{
    StreamExt as _,
    future::{join, join_all, try_join, try_join_all},
    stream,
};

mod absent;
mod attributes;
mod blosc;
mod bounds;
pub mod calendar;
pub(crate) mod chain;
mod characters;
pub(crate) mod checksum;
mod codec;
#[cfg(test)]
mod codec_cases;
pub(crate) mod codec_spec;
pub(crate) mod compression;
mod decoding;
pub(crate) mod dtype;
mod elements;
pub(crate) mod fill;
pub(crate) mod filters;
pub(crate) mod items;
pub(crate) mod keys;
mod layout;
pub(crate) mod lost;
mod lz4;
mod multiscales;
mod names;
pub(crate) mod number_format;
mod pcodec;
mod plates;
mod roles;
mod scalars;
pub(crate) mod shard;
mod shuffle;
pub(crate) mod small_floats;
pub(crate) mod spec;
mod table;
mod time;
mod variable;
mod variable_length;
pub(crate) mod whole_shard;
pub(crate) mod zarrs_chain;

use self::{
    absent::nothing_at,
    bounds::with_units,
    characters::{joinable, joined},
    multiscales::Multiscales,
    names::{Unnamed, name_dimensions},
    plates::with_fields,
    roles::roles,
    scalars::without_dimension,
};
pub use self::{
    attributes::{Attribute, Attributes},
    decoding::nan_to_null,
    layout::Layout,
    roles::Role,
    table::{Column, Dimension, Table},
    variable::Variable,
};
pub(crate) use self::{
    blosc::Blocks as BloscBlocks,
    chain::{Storage, Stream},
    codec::ChunkCodec,
    decoding::StoredValues,
    shard::{ShardIndex, ShardLayout},
    shuffle::unshuffle,
};
pub use crate::format::zarr::documents::ZarrFormat;
use crate::{
    Error, Location, OpenOptions, Result,
    error::warn_once,
    format::zarr::{
        array::array_spec,
        documents::{
            ArrayDocument, Asked, GroupDocument, Node, holds_nodes, is_denied, list_nodes, lists,
            named_nodes, read_group, read_node, warn_left_out,
        },
    },
    options::DecodeTimes,
};

/// A Zarr group, or a lone array: metadata only.
#[derive(Debug)]
pub struct Dataset {
    /// What was opened.
    origin: Location,
    /// Where the group is, or the lone array.
    location: Location,
    attributes: Attributes,
    format: ZarrFormat,
    /// By name.
    variables: Vec<(Arc<Variable>, Role)>,
    children: Vec<String>,
    /// The variable that the path named.
    selected: Option<String>,
    /// The levels of an image at several resolutions.
    levels: Vec<String>,
    options: OpenOptions,
}

/// A group with the metadata of the nodes directly inside it.
struct Group {
    location: Location,
    document: GroupDocument,
    nodes: BTreeMap<String, Node>,
}

impl Dataset {
    /// Opens the group or array at `location`. Reads metadata and nothing else.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotZarr`], [`Error::Metadata`], [`Error::NoSuch`] and
    /// [`Error::Store`].
    pub async fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let dataset = Self::open_at(location, options).await?;
        Ok(Self { origin: location.clone(), ..dataset })
    }

    /// The same dataset as it is now, with the same options: others may have written to it.
    ///
    /// # Errors
    /// Those of [`Dataset::open`].
    pub async fn reopen(&self) -> Result<Self> {
        Self::open(&self.origin.renewed(), &self.options).await
    }

    async fn open_at(location: &Location, options: &OpenOptions) -> Result<Self> {
        let location = location.clone().with_limits(options.limits);
        let location = match options.group.as_deref() {
            None | Some("") => location,
            Some(group) => location.child(group)?,
        };
        let use_consolidated = options.consolidated != Some(false);
        let (node, ancestors) =
            join(read_node(&location, use_consolidated), ancestors(&location, use_consolidated))
                .await;
        let (node, ancestors) = (node?, ancestors?);
        // A store may hold nothing but its root's consolidated metadata.
        let node = match node.or_else(|| consolidated_node(&location, &ancestors)) {
            Some(node) => node,
            None => match implicit_group(&location, &ancestors, use_consolidated).await? {
                Some(format) => Node::Group(GroupDocument::implicit(format)),
                None => return Err(nothing_at(&location, &ancestors, use_consolidated).await?),
            },
        };
        if options.consolidated == Some(true) {
            let has = |document: &GroupDocument| document.consolidated.is_some();
            let own = matches!(&node, Node::Group(document) if has(document));
            if !own && !ancestors.iter().any(|(_, document)| has(document)) {
                return Err(Error::Metadata {
                    key: location.name().to_owned(),
                    reason: "there is no consolidated metadata, which the option consolidated=true asks for".to_owned(),
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
                    expand(&location, document, &ancestors, asked),
                    inherited_coordinates(&ancestors),
                )
                .await?;
                Self::from_group(group, inherited, None, options)
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
                        Self::from_group(group, inherited, Some(name), options)
                    }
                    _ => Self::from_lone_array(&location, &document, options),
                }
            }
        }
    }

    /// The location that was opened: with the group's or the variable's name, if it had one.
    #[must_use]
    pub fn origin(&self) -> &Location {
        &self.origin
    }

    /// Where the group is, or the lone array.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The group's attributes.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The version of the format.
    #[must_use]
    pub fn format(&self) -> ZarrFormat {
        self.format
    }

    /// All variables with their roles, by name.
    #[must_use]
    pub fn variables(&self) -> &[(Arc<Variable>, Role)] {
        &self.variables
    }

    /// The variable of this name.
    ///
    /// # Errors
    /// [`Error::NoSuch`] with the names that there are.
    pub fn variable(&self, name: &str) -> Result<&Arc<Variable>> {
        let found = self.variables.iter().find(|(variable, _)| variable.name() == name);
        found.map(|(variable, _)| variable).ok_or_else(|| Error::NoSuch {
            location: self.location.name().to_owned(),
            what: "variable",
            name: name.to_owned(),
            known: self.variables.iter().map(|(v, _)| v.name().to_owned()).collect(),
        })
    }

    /// All dimensions, in the order in which the variables have them. The size is that of the
    /// dimension's coordinate, or else of the first variable along it.
    #[must_use]
    pub fn dims(&self) -> Vec<Dimension> {
        let mut names: Vec<&String> = Vec::new();
        for name in self.variables.iter().flat_map(|(variable, _)| variable.dims()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let dimension =
            |name: &String| Dimension { name: name.clone(), size: self.dimension_size(name) };
        names.into_iter().map(dimension).collect()
    }

    /// The names of the groups inside this one.
    #[must_use]
    pub fn children(&self) -> &[String] {
        &self.children
    }

    /// The options it was opened with.
    #[must_use]
    pub fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// The variable that the path named, if it named one.
    #[must_use]
    pub fn selected(&self) -> Option<&str> {
        self.selected.as_deref()
    }

    /// The names of the variables that are the same image at several resolutions, from the finest to
    /// the coarsest. Their dimensions have the same names and other sizes: each is a table of its own.
    #[must_use]
    pub fn levels(&self) -> &[String] {
        match (&self.selected, &self.options.variables, self.levels.as_slice()) {
            (None, None, levels @ [_, _, ..]) => levels,
            _ => &[],
        }
    }

    fn from_lone_array(
        location: &Location,
        document: &ArrayDocument,
        options: &OpenOptions,
    ) -> Result<Self> {
        let array = ("value".to_owned(), location.clone(), document);
        let mut variables = open_variables(&[array], options, Wanted::Array("value"), None)?;
        let variable = variables.pop().map(|v| (Arc::new(v), Role::Data));
        Ok(Self {
            origin: location.clone(),
            location: location.clone(),
            attributes: document.attributes.clone(),
            format: document.format,
            variables: variable.into_iter().collect(),
            children: Vec::new(),
            selected: None,
            levels: Vec::new(),
            options: options.clone(),
        })
    }

    fn from_group(
        group: Group,
        inherited: Vec<(String, Location, ArrayDocument)>,
        selected: Option<String>,
        options: &OpenOptions,
    ) -> Result<Self> {
        let mut arrays = Vec::new();
        let mut children = Vec::new();
        for (name, node) in &group.nodes {
            match node {
                Node::Group(_) => children.push(name.clone()),
                Node::Array(_)
                    if options.drop_variables.contains(name) && selected.as_ref() != Some(name) => {
                }
                Node::Array(document) => {
                    arrays.push((name.clone(), group.location.child(name)?, document));
                }
            }
        }
        let multiscales = Multiscales::new(&group.document.attributes);
        let wanted = match (&selected, &options.variables) {
            (Some(name), _) => Wanted::Array(name),
            (None, Some(names)) => Wanted::These(names),
            (None, None) => Wanted::All,
        };
        let mut variables = open_variables(&arrays, options, wanted, multiscales.as_ref())?;

        // Dimension coordinates of the groups above serve this one where sizes agree, as in
        // xarray's DataTree.
        for (name, location, document) in &inherited {
            if group.nodes.contains_key(name) || options.drop_variables.contains(name) {
                continue;
            }
            let array = (name.clone(), location.clone(), document);
            let inherited = open_variables(&[array], options, Wanted::These(&[]), None)?;
            for variable in inherited {
                let fits = |v: &Variable| {
                    v.dims()
                        .iter()
                        .zip(v.shape())
                        .any(|(d, s)| d == name && *s == variable.shape()[0])
                };
                if variable.dims() == [name.as_str()] && variables.iter().any(fits) {
                    variables.push(variable);
                }
            }
        }
        variables.sort_by(|a, b| a.name().cmp(b.name()));
        let roles = roles(&variables, &group.document.attributes, options);
        let children = with_fields(children, &group.document.attributes);
        let mut dataset = Self {
            origin: group.location.clone(),
            location: group.location,
            attributes: group.document.attributes,
            format: group.document.format,
            variables: variables.into_iter().map(Arc::new).zip(roles).collect(),
            children,
            selected: None,
            levels: multiscales.map(|multiscales| multiscales.levels).unwrap_or_default(),
            options: options.clone(),
        };
        dataset.levels.retain(|level| dataset.variables.iter().any(|(v, _)| v.name() == level));
        if let Some(name) = selected {
            dataset.select(&name);
        } else if let Some(names) = &options.variables {
            dataset.keep(names)?;
        }
        Ok(dataset)
    }

    /// Leaves the variable and the coordinates on its dimensions.
    fn select(&mut self, name: &str) {
        let Some((selected, _)) = self.variables.iter().find(|(v, _)| v.name() == name) else {
            return;
        };
        let selected = Arc::clone(selected);
        let size = |dim: &String| {
            let axis = selected.dims().iter().position(|d| d == dim)?;
            Some(selected.shape()[axis])
        };
        self.variables.retain(|(variable, role)| {
            let mut sizes = variable.dims().iter().zip(variable.shape());
            let fits = sizes.all(|(dim, own)| size(dim) == Some(*own));
            variable.name() == name || (role.is_coordinate() && fits)
        });
        for (variable, role) in &mut self.variables {
            if variable.name() == name && *role != Role::DimensionCoordinate {
                *role = Role::Data;
            }
        }
        self.location = match self.location.child(name) {
            Ok(location) => location,
            Err(_) => self.location.clone(),
        };
        self.selected = Some(name.to_owned());
    }

    /// Leaves these data variables and the coordinates.
    fn keep(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            if !self.variables.iter().any(|(v, _)| v.name() == name) {
                return Err(Error::NoSuch {
                    location: self.location.name().to_owned(),
                    what: "variable",
                    name: name.clone(),
                    known: self.variables.iter().map(|(v, _)| v.name().to_owned()).collect(),
                });
            }
        }
        for (variable, role) in &mut self.variables {
            if names.iter().any(|n| n == variable.name()) && !role.is_coordinate() {
                *role = Role::Data;
            }
        }
        self.variables
            .retain(|(v, role)| role.is_coordinate() || names.iter().any(|n| n == v.name()));
        Ok(())
    }
}

/// The format of a group without metadata of its own, if there is one at a location: it is inside a store,
/// and holds arrays or groups.
async fn implicit_group(
    location: &Location,
    ancestors: &[(Location, GroupDocument)],
    consolidated: bool,
) -> Result<Option<ZarrFormat>> {
    /// How far above a group with metadata is looked for.
    const LEVELS: usize = 4;

    let mut above: Option<(Location, GroupDocument)> = ancestors.first().cloned();
    if above.is_none() {
        // Who is below several such groups is further away from one with metadata.
        let parents: Vec<Location> =
            iter::successors(location.parent(), Location::parent).take(LEVELS).collect();
        let reads = parents.iter().map(|parent| read_group(parent, consolidated));
        // Where an answer takes its time all are asked for at once.
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

/// The path of a location relative to a group above it.
fn path_below<'a>(location: &'a Location, holder: &Location) -> &'a str {
    let path = location.path().as_ref();
    path.strip_prefix(holder.path().as_ref()).unwrap_or("").trim_matches('/')
}

/// The node that the consolidated metadata of a group above has for a location.
fn consolidated_node(location: &Location, ancestors: &[(Location, GroupDocument)]) -> Option<Node> {
    ancestors.iter().find_map(|(holder, document)| {
        let below = location.path().as_ref().strip_prefix(holder.path().as_ref())?;
        document.consolidated.as_ref()?.get(below.trim_start_matches('/')).cloned()
    })
}

/// The groups above, the nearest first.
async fn ancestors(
    location: &Location,
    consolidated: bool,
) -> Result<Vec<(Location, GroupDocument)>> {
    // Where an answer takes its time, as many are asked for at once as tell that there is none: two, and
    // one that may be the root of the store.
    let at_once = if location.link().is_remote() { 3 } else { 1 };
    let mut ancestors = Vec::new();
    // A group inside a store may have its metadata in the consolidated ones above alone.
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
                // Nobody knows what is there: it may have coordinates.
                Err(error @ Error::Store { .. }) if !is_denied(&error) => return Err(error),
                // What lies above a store is none of its business, even if it looks broken.
                _ => return Ok(ancestors),
            }
        }
    }
}

/// Finds the nodes inside a group: in its own consolidated metadata, in that of a group above, or
/// by listing. Where nothing is listed they are those that are `asked` for, with their coordinates.
async fn expand(
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
        // Groups that have no metadata of their own.
        for group in implicit {
            let format = holder_document.format;
            let node = || Node::Group(GroupDocument::implicit(format));
            nodes.entry(group).or_insert_with(node);
        }
        // A group that the metadata above doesn't know was added later.
        if !nodes.is_empty() || prefix.is_empty() {
            return Ok(Group { location: location.clone(), nodes, document });
        }
    }
    let names = match asked {
        Asked::All => None,
        Asked::These(names) => Some(names),
        // What can't be listed can't be inherited.
        Asked::None => (!lists(location)).then_some(&[][..]),
    };
    let nodes = match names {
        Some(names) if !lists(location) => named_nodes(location, names, document.format).await?,
        Some(names) => match list_nodes(location, document.format, asked).await {
            // Who may read a bucket may not always list it.
            Err(Error::Store { .. }) => named_nodes(location, names, document.format).await?,
            nodes => nodes?,
        },
        None => list_nodes(location, document.format, asked).await?,
    };
    Ok(Group { location: location.clone(), nodes, document })
}

/// The arrays of the groups above that are named like a dimension could be; the nearest wins.
async fn inherited_coordinates(
    ancestors: &[(Location, GroupDocument)],
) -> Result<Vec<(String, Location, ArrayDocument)>> {
    let groups = ancestors.iter().enumerate().map(|(i, (location, document))| {
        expand(location, document.clone(), &ancestors[i + 1..], Asked::None)
    });
    let groups = try_join_all(groups).await?;
    let mut found: Vec<(String, Location, ArrayDocument)> = Vec::new();
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

/// The arrays of a group that are of interest: all, those with these names, or the one that the path named,
/// which must be there.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    All,
    These(&'a [String]),
    Array(&'a str),
}

/// Opens the arrays of a group. One that is broken is left out, with a warning where it is of interest.
fn open_variables(
    arrays: &[(String, Location, &ArrayDocument)],
    options: &OpenOptions,
    wanted: Wanted<'_>,
    multiscales: Option<&Multiscales>,
) -> Result<Vec<Variable>> {
    let leave_out = |name: &str, error: Error| {
        let is_wanted = match wanted {
            Wanted::Array(wanted) if wanted == name => return Err(error),
            Wanted::Array(_) => false,
            Wanted::These(names) => names.iter().any(|wanted| wanted == name),
            Wanted::All => true,
        };
        if is_wanted {
            warn_once(&format!("the array '{name}' is left out: {error}"));
        }
        Ok(())
    };
    let asked: Vec<&str> = match wanted {
        Wanted::All => Vec::new(),
        Wanted::These(names) => names.iter().map(String::as_str).collect(),
        Wanted::Array(name) => vec![name],
    };
    let mut described = Vec::with_capacity(arrays.len());
    for (name, location, document) in arrays {
        match array_spec(document) {
            Ok(spec) => described.push((name, location, spec)),
            Err(reason) => {
                leave_out(name, Error::Metadata { key: document.key.clone(), reason })?;
            }
        }
    }
    let unnamed = described.iter().map(|(array, _, spec)| Unnamed {
        array: array.as_str(),
        shape: &spec.layout.shape,
        stored: spec.dims.as_deref(),
    });
    let unnamed: Vec<Unnamed<'_>> = unnamed.collect();
    let dimensions = name_dimensions(&unnamed, multiscales, &asked);
    let are_strings = if options.decode_cf {
        let named = described.iter().zip(&dimensions);
        joinable(named.map(|((name, _, spec), dims)| (name.as_str(), spec, dims.names.as_slice())))
    } else {
        vec![false; described.len()]
    };
    let of_bounds = if options.times() != DecodeTimes::No {
        with_units(described.iter().map(|(name, _, spec)| (name.as_str(), &spec.attributes)))
    } else {
        vec![None; described.len()]
    };
    let mut variables = Vec::with_capacity(described.len());
    for ((((name, location, spec), mut dimensions), are_strings), of_bounds) in
        described.into_iter().zip(dimensions).zip(are_strings).zip(of_bounds)
    {
        let shorter =
            if are_strings { joined(&spec) } else { without_dimension(&spec, &dimensions.names) };
        if shorter.is_some() {
            dimensions.names.pop();
        }
        let (name, location, spec) = (name.clone(), location.clone(), shorter.unwrap_or(spec));
        let decoded_by = of_bounds.as_ref();
        variables.push(Variable::new(name, location, spec, dimensions, decoded_by, options));
    }
    Ok(variables)
}
