//! The constant ruleset and its elements in the kernel's nf_tables.
//!
//! ```text
//!   [Create(element), Remove(element), …] ──apply──>   BEGIN │ NEWSETELEM │ DELSETELEM │ … │ END
//!                                                      one sendmsg, one generation, all or nothing
//!   keys ──observe──> GETSETELEM of just these         tables ──marked──> every element with our comment
//! ```
//!
//! One message per element, so that a refusal names its op. Whose an element is says its comment, in libnftnl's
//! format, so that `nft list` shows it; the tables' comments hold the ruleset's version. When another version is
//! put in place, the elements that are there are put into it in the same transaction, which the kernel refuses if
//! anything changed since they were read (NFNL_BATCH_GENID).
//!
//! A table that is owned takes changes from its owner's socket alone, and everybody may read it. So a batch goes by
//! one socket, and what it is computed from comes by another: `owner.rs`.

mod element;
mod owner;
mod rules;
mod wire;

use std::collections::BTreeMap;
use std::io;

use netlink::{Errno, Message, Socket, flags};
use plan::{Element, Field, Key, Mark, Object, Op, Ruleset, Seen, Table};

use wire::{NFGENMSG, TABLES};

pub use owner::{Adopted, adopt};

/// Why the transaction was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirewallError {
    /// Index of the op that was refused, where the kernel's answer tells.
    pub(crate) op: Option<usize>,
    /// The kernel's error, with the rule or chain it was about.
    pub(crate) errno: Errno,
}

/// How often a replacement is tried when others change rules meanwhile.
const REPLACE_TRIES: u32 = 32;

/// The sockets of one transaction.
pub(crate) struct Sockets<'a> {
    /// What the batch is computed from comes by this one.
    pub(crate) reading: &'a mut Socket,
    /// The batch goes by this one, which owns the tables it makes; without it by the other, and nobody owns them.
    pub(crate) owner: Option<&'a mut Socket>,
}

/// Takes the ops in one transaction. An element to be removed that is not there counts as removed.
pub(crate) fn apply(sockets: &mut Sockets<'_>, ops: &[Op]) -> Result<(), FirewallError> {
    let flags = if sockets.owner.is_some() { wire::OWNER | wire::PERSIST } else { 0 };
    apply_with(sockets, ops, flags)
}

/// As above, with these flags on a table that is created; with none where the kernel does not know them.
fn apply_with(sockets: &mut Sockets<'_>, ops: &[Op], mut flags: u32) -> Result<(), FirewallError> {
    let mut gone = vec![false; ops.len()];
    let mut tries = 0;
    loop {
        let batch = Batch::of(sockets.reading, ops, &gone, flags)?;
        let writing = match &mut sockets.owner {
            Some(owner) => owner,
            None => &mut *sockets.reading,
        };
        match batch.send(writing, ops)? {
            Answer::Taken => return Ok(()),
            Answer::Outdated(_) if tries < REPLACE_TRIES => tries += 1,
            Answer::Missing(missing) => missing.into_iter().for_each(|op| gone[op] = true),
            Answer::Unflagged(_) if flags != 0 => flags = 0,
            Answer::Refused(error) if error.errno.code == libc::EPERM => return Err(owner::named(sockets, error)),
            Answer::Outdated(error) | Answer::Unflagged(error) | Answer::Refused(error) => return Err(error),
        }
    }
}

/// What the kernel says to a transaction. Only the first means that anything was done.
enum Answer {
    Taken,
    /// Others changed rules since the batch was computed.
    Outdated(FirewallError),
    /// All would be well but for these ops, whose elements are not there to be removed.
    Missing(Vec<usize>),
    /// The kernel does not know the tables' flags, or has no nf_tables at all.
    Unflagged(FirewallError),
    Refused(FirewallError),
}

/// The messages of one transaction, and which op each stands for.
struct Batch {
    messages: Vec<Message>,
    /// Op and, for a part of the ruleset, its text.
    about: Vec<(Option<usize>, Option<String>)>,
    /// The state of the tables this was computed from, when that matters.
    generation: Option<u32>,
    /// Of tables that are created.
    flags: u32,
}

impl Batch {
    fn of(socket: &mut Socket, ops: &[Op], gone: &[bool], flags: u32) -> Result<Self, FirewallError> {
        let mut batch = Self { messages: Vec::new(), about: Vec::new(), generation: None, flags };
        let mut kept = Vec::new();
        if ops.iter().any(|op| matches!(op, Op::Change { to: Object::Ruleset(_), .. })) {
            batch.generation = Some(generation(socket).map_err(|cause| whole(&cause))?);
            kept = marked(socket).map_err(|cause| whole(&cause))?;
        }
        batch.push(None, wire::begin(batch.generation));
        for (n, op) in ops.iter().enumerate().filter(|(n, _)| !gone[*n]) {
            batch.op(n, op, &kept)?;
        }
        // The kernel complains unasked; one acknowledgement is enough to know that all was taken.
        if let Some(last) = batch.messages.pop() {
            batch.messages.push(last.with_flags(flags::ACK));
        }
        batch.push(None, wire::end());
        Ok(batch)
    }

    fn op(&mut self, n: usize, op: &Op, kept: &[Element]) -> Result<(), FirewallError> {
        match op {
            Op::Create(Object::Ruleset(_)) => self.create_ruleset(n),
            Op::Remove(Object::Ruleset(_)) => self.remove_ruleset(n),
            Op::Change { to: Object::Ruleset(_), .. } => {
                self.remove_ruleset(n);
                self.create_ruleset(n);
                // An element of a set that the new rules have no more is left behind.
                kept.iter().filter_map(|element| element::create(element).ok()).for_each(|m| self.push(Some(n), m));
            }
            Op::Create(Object::Element(element)) => self.element(n, element::create(element))?,
            // What is of no set of ours is not there.
            Op::Remove(Object::Element(element)) => {
                element::remove(element).into_iter().for_each(|message| self.push(Some(n), message));
            }
            Op::Change { from: Object::Element(from), to: Object::Element(to) } => {
                self.element(n, element::remove(from))?;
                self.element(n, element::create(to))?;
            }
            Op::Create(_) | Op::Remove(_) | Op::Change { .. } => return Err(refused(n, libc::EINVAL)),
        }
        Ok(())
    }

    fn element(&mut self, n: usize, message: Result<Message, element::Misfit>) -> Result<(), FirewallError> {
        let message = message.map_err(|element::Misfit| refused(n, libc::EINVAL))?;
        self.push(Some(n), message);
        Ok(())
    }

    fn create_ruleset(&mut self, n: usize) {
        let version = firewall::version();
        for table in firewall::rules().tables {
            for (message, text) in rules::create(&table, &version, self.flags) {
                self.messages.push(message);
                self.about.push((Some(n), Some(text)));
            }
        }
    }

    /// Adding first makes the removal good whether or not the table is there.
    fn remove_ruleset(&mut self, n: usize) {
        for table in [Table::Inet, Table::Bridge] {
            self.push(
                Some(n),
                wire::message(wire::NEWTABLE, flags::CREATE, table).attr_str(wire::TABLE_NAME, wire::NAME),
            );
            self.push(Some(n), wire::message(wire::DELTABLE, 0, table).attr_str(wire::TABLE_NAME, wire::NAME));
        }
    }

    fn push(&mut self, op: Option<usize>, message: Message) {
        self.messages.push(message);
        self.about.push((op, None));
    }

    fn send(&self, socket: &mut Socket, ops: &[Op]) -> Result<Answer, FirewallError> {
        if self.is_empty() {
            return Ok(Answer::Taken);
        }
        let results = socket.batch(&self.messages).map_err(|cause| whole(&cause))?;
        let refused: Vec<_> =
            results.iter().enumerate().filter_map(|(n, result)| Some((n, result.as_ref().err()?))).collect();
        let missing: Vec<_> = refused.iter().filter_map(|(n, e)| self.missing_remove(*n, e, ops)).collect();
        let is_fatal =
            |(n, e): &(usize, &Errno)| e.code != libc::ECANCELED && self.missing_remove(*n, e, ops).is_none();
        Ok(match &refused[..] {
            [] => Answer::Taken,
            _ if refused.iter().any(|(_, e)| e.code == libc::ERESTART) => Answer::Outdated(self.error(&refused)),
            _ if refused.iter().any(|(n, e)| self.is_about_flags(*n, e)) => Answer::Unflagged(self.error(&refused)),
            _ if missing.is_empty() || refused.iter().any(is_fatal) => Answer::Refused(self.error(&refused)),
            _ => Answer::Missing(missing),
        })
    }

    /// Nothing between begin and end.
    fn is_empty(&self) -> bool {
        self.about.iter().all(|(op, _)| op.is_none())
    }

    /// The op, when this refusal means that an element to be removed is not there.
    fn missing_remove(&self, message: usize, errno: &Errno, ops: &[Op]) -> Option<usize> {
        let op = self.about[message].0?;
        (errno.code == libc::ENOENT && matches!(ops[op], Op::Remove(Object::Element(_)))).then_some(op)
    }

    /// Kernels before 5.12 say `EINVAL` to flags they do not know, later ones `EOPNOTSUPP` (nf_tables_newtable).
    fn is_about_flags(&self, message: usize, errno: &Errno) -> bool {
        let a_table = self.about[message].1.as_ref().is_some_and(|part| part.starts_with("table "));
        self.flags != 0 && a_table && matches!(errno.code, libc::EOPNOTSUPP | libc::EINVAL)
    }

    /// The first refusal that is not a consequence of another.
    fn error(&self, refused: &[(usize, &Errno)]) -> FirewallError {
        let cause = refused.iter().find(|(_, errno)| errno.code != libc::ECANCELED).or(refused.first());
        let Some((message, errno)) = cause else { return whole(&io::ErrorKind::Other.into()) };
        let (op, part) = &self.about[*message];
        let words = match (part, errno.code) {
            (Some(part), _) => format!("{} (at: {part})", kernel_words(errno)),
            (None, libc::EOPNOTSUPP) => "this kernel has no nf_tables (CONFIG_NF_TABLES)".to_owned(),
            (None, _) => errno.text.clone(),
        };
        FirewallError { op: *op, errno: Errno { code: errno.code, text: words } }
    }
}

/// Without the error's name, which is printed before it.
fn kernel_words(errno: &Errno) -> String {
    let text = errno.to_string();
    text.split_once(": ").map_or(text.clone(), |(_, words)| words.to_owned())
}

fn refused(op: usize, code: i32) -> FirewallError {
    FirewallError { op: Some(op), errno: Errno::new(code) }
}

/// The socket failed, which is no op's fault.
fn whole(cause: &io::Error) -> FirewallError {
    let code = cause.raw_os_error().unwrap_or(libc::EIO);
    FirewallError { op: None, errno: Errno { code, text: cause.to_string() } }
}

/// Reads `replies` as elements of every set of ours, and as a table.
pub(crate) fn read_anything(replies: &[netlink::Reply]) {
    for shape in element::Shape::all() {
        shape.read(replies);
    }
    for reply in replies {
        wire::version(reply.attrs(NFGENMSG).find(wire::TABLE_USERDATA));
    }
}

/// What is there under the keys of `objects`; what is not there is left out.
pub(crate) fn observe(socket: &mut Socket, objects: &[&Object]) -> io::Result<Vec<(Key, Seen)>> {
    let mut asked = BTreeMap::new();
    for object in objects {
        if let Object::Element(element) = object {
            *asked.entry((element.table, element.set.as_str())).or_insert(0) += 1;
        }
    }
    let mut view = View { socket, asked, dumped: BTreeMap::new() };
    let mut seen = Vec::new();
    for object in objects {
        let found = match object {
            Object::Ruleset(_) => view.ruleset()?,
            Object::Element(element) => view.element(element)?,
            _ => None,
        };
        seen.extend(found.map(|found| (object.key(), found)));
    }
    Ok(seen)
}

/// Above so many, a set is read whole instead of asked for each element.
const ASK_EACH: usize = 64;

/// The kernel during one observation.
struct View<'a> {
    socket: &'a mut Socket,
    /// How many elements of which set are asked for.
    asked: BTreeMap<(Table, &'a str), usize>,
    /// Sets that were read whole.
    dumped: BTreeMap<(Table, &'static str), BTreeMap<Vec<Field>, element::Found>>,
}

impl View<'_> {
    fn ruleset(&mut self) -> io::Result<Option<Seen>> {
        let mut versions = Vec::new();
        for (table, name) in TABLES {
            let Some(reply) = get(self.socket, wire::table(wire::GETTABLE, table))? else { continue };
            let Some(version) = wire::version(reply.attrs(NFGENMSG).find(wire::TABLE_USERDATA)) else {
                return Ok(Some(Seen::Other { what: format!("table {name} of another program") }));
            };
            versions.push(version);
        }
        let whole = versions.len() == TABLES.len() && versions.iter().all(|version| *version == versions[0]);
        let version = match versions.first() {
            None => return Ok(None),
            Some(version) if whole && (*version != firewall::version() || self.has_all_rules()?) => version.clone(),
            Some(_) => "incomplete".to_owned(),
        };
        Ok(Some(Seen::Object { object: Object::Ruleset(Ruleset { version }), ours: true }))
    }

    /// Somebody may have flushed a chain, which the tables' comments do not tell.
    fn has_all_rules(&mut self) -> io::Result<bool> {
        for table in firewall::rules().tables {
            let request = wire::message(wire::GETRULE, 0, table.table).attr_str(wire::RULE_TABLE, wire::NAME);
            let wanted: usize = table.chains.iter().map(|chain| chain.rules.len()).sum();
            if dump(self.socket, request)?.len() != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn element(&mut self, wanted: &Element) -> io::Result<Option<Seen>> {
        let Some(shape) = element::Shape::of(wanted.table, &wanted.set) else { return Ok(None) };
        // The kernel's answer for one interval of a tree is one of its ends: such sets are read whole.
        let many = self.asked.get(&(wanted.table, wanted.set.as_str())).is_some_and(|asked| *asked > ASK_EACH);
        let found = if shape.is_tree() || many {
            self.dumped(shape)?.get(&wanted.key).cloned()
        } else {
            let Ok(request) = element::get(wanted) else { return Ok(None) };
            let reply = get(self.socket, request)?;
            reply.map(|reply| shape.read(&[reply])).unwrap_or_default().into_iter().next()
        };
        Ok(found.map(|found| seen(found, wanted)))
    }

    fn dumped(&mut self, shape: &'static element::Shape) -> io::Result<&BTreeMap<Vec<Field>, element::Found>> {
        let key = (shape.table, shape.set.name);
        if !self.dumped.contains_key(&key) {
            let found = read_set(self.socket, shape)?;
            self.dumped.insert(key, found.into_iter().map(|found| (found.key.clone(), found)).collect());
        }
        Ok(&self.dumped[&key])
    }
}

fn seen(found: element::Found, wanted: &Element) -> Seen {
    match found.comment.as_deref().and_then(Mark::read) {
        Some(mark) if found.key == wanted.key => {
            Seen::Object { object: Object::Element(found.element(wanted, mark)), ours: true }
        }
        Some(mark) => Seen::Covered { by: Object::Element(found.element(wanted, mark)) },
        None => Seen::Other { what: Object::Element(found.element(wanted, wanted.mark.clone())).to_string() },
    }
}

/// Every element of our sets that has a mark of podwire, of whatever store.
pub(crate) fn marked(socket: &mut Socket) -> io::Result<Vec<Element>> {
    let mut elements = Vec::new();
    for shape in element::Shape::all() {
        for found in read_set(socket, shape)? {
            if let Some(mark) = found.comment.as_deref().and_then(Mark::read) {
                elements.push(Element {
                    table: shape.table,
                    set: shape.set.name.to_owned(),
                    key: found.key,
                    data: found.data,
                    mark,
                });
            }
        }
    }
    Ok(elements)
}

fn read_set(socket: &mut Socket, shape: &element::Shape) -> io::Result<Vec<element::Found>> {
    let request = wire::elements(wire::GETSETELEM, 0, shape.table, shape.set.name);
    Ok(shape.read(&dump(socket, request)?))
}

/// The number of the tables' present state.
fn generation(socket: &mut Socket) -> io::Result<u32> {
    let reply = socket.get(wire::get_generation())?;
    reply.and_then(|reply| reply.attrs(NFGENMSG).be32(wire::GEN_ID)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A kernel without nf_tables has no object of it.
fn get(socket: &mut Socket, request: Message) -> io::Result<Option<netlink::Reply>> {
    socket.get(request).or_else(|e| if is_absent(&e) { Ok(None) } else { Err(e) })
}

/// As above; and a set that is not there has no elements.
fn dump(socket: &mut Socket, request: Message) -> io::Result<Vec<netlink::Reply>> {
    socket.dump(request).or_else(|e| if is_absent(&e) { Ok(Vec::new()) } else { Err(e) })
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

#[cfg(test)]
#[path = "../tests/inside/mod.rs"]
mod inside;

#[cfg(test)]
mod tests {
    use super::*;

    /// A flag that no kernel has stands for those that an older one does not have.
    #[test]
    fn where_the_kernel_does_not_know_the_flags_the_tables_have_none() {
        inside::alone("firewall::tests::where_the_kernel_does_not_know_the_flags_the_tables_have_none", || {
            let open = || Socket::open(netlink::Protocol::Netfilter).unwrap();
            let (mut reading, mut owner) = (open(), open());
            let mut sockets = Sockets { reading: &mut reading, owner: Some(&mut owner) };
            let ruleset = || Object::Ruleset(Ruleset { version: firewall::version() });
            apply_with(&mut sockets, &[Op::Create(ruleset())], 1 << 30).unwrap();
            assert!(!inside::sh("nft list ruleset").contains("flags owner"));
            apply_with(&mut sockets, &[Op::Change { from: ruleset(), to: ruleset() }], 1 << 30).unwrap();
            assert!(matches!(
                observe(&mut reading, &[&ruleset()]).unwrap()[..],
                [(_, Seen::Object { ours: true, .. })]
            ));
        });
    }
}
