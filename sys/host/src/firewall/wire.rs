//! Numbers of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h, and what every message has.

use netlink::Message;
use plan::Table;

/// The name of both our tables.
pub(super) const NAME: &str = "podwire";
/// Our tables and how nft calls them.
pub(super) const TABLES: [(Table, &str); 2] = [(Table::Inet, "inet podwire"), (Table::Bridge, "bridge podwire")];

/// Length of struct nfgenmsg.
pub(super) const NFGENMSG: usize = 4;
const SUBSYS_NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENID: u16 = 1;

// enum nf_tables_msg_types
pub(super) const NEWTABLE: u16 = 0;
pub(super) const GETTABLE: u16 = 1;
pub(super) const DELTABLE: u16 = 2;
pub(super) const NEWCHAIN: u16 = 3;
pub(super) const NEWRULE: u16 = 6;
pub(super) const GETRULE: u16 = 7;
pub(super) const NEWSET: u16 = 9;
pub(super) const NEWSETELEM: u16 = 12;
pub(super) const GETSETELEM: u16 = 13;
pub(super) const DELSETELEM: u16 = 14;
const GETGEN: u16 = 16;

// enum nft_table_attributes, nft_rule_attributes, nft_gen_attributes, nft_list_attributes, nft_data_attributes
pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_FLAGS: u16 = 2;
pub(super) const TABLE_USERDATA: u16 = 6;
pub(super) const TABLE_OWNER: u16 = 7;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const GEN_ID: u16 = 1;
pub(super) const LIST_ELEM: u16 = 1;
pub(super) const DATA_VALUE: u16 = 1;

/// enum nft_table_flags: only the socket that made the table may change it, and a flush by others skips it.
pub(super) const OWNER: u32 = 0x2;
/// The table outlives its owner's socket, and the next owner may take it (Linux 6.9).
pub(super) const PERSIST: u32 = 0x4;

// enum nft_set_elem_list_attributes
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
pub(super) const ELEM_LIST_ELEMENTS: u16 = 3;

/// libnftnl's NFTNL_UDATA_TABLE_COMMENT and NFTNL_UDATA_SET_ELEM_COMMENT.
const UDATA_COMMENT: u8 = 0;
/// Before the version in a table's comment.
const VERSION_PREFIX: &str = "podwire rules ";

/// NFPROTO_INET, NFPROTO_BRIDGE
fn family(table: Table) -> u8 {
    match table {
        Table::Inet => 1,
        Table::Bridge => 7,
    }
}

/// A message about something in one of our tables.
pub(super) fn message(kind: u16, flags: u16, table: Table) -> Message {
    Message::new(SUBSYS_NFTABLES << 8 | kind, flags).bytes(&[family(table), 0, 0, 0])
}

/// A message about one of our tables.
pub(super) fn table(kind: u16, which: Table) -> Message {
    message(kind, 0, which).attr_str(TABLE_NAME, NAME)
}

/// The head of a message about elements.
pub(super) fn elements(kind: u16, flags: u16, table: Table, set: &str) -> Message {
    message(kind, flags, table).attr_str(ELEM_LIST_TABLE, NAME).attr_str(ELEM_LIST_SET, set)
}

/// The kernel refuses the transaction when it is not at this generation any more.
pub(super) fn begin(generation: Option<u32>) -> Message {
    let begin = batch(BATCH_BEGIN);
    generation.map_or(begin.clone(), |generation| begin.attr_be32(BATCH_GENID, generation))
}

pub(super) fn end() -> Message {
    batch(BATCH_END)
}

fn batch(kind: u16) -> Message {
    let [high, low] = SUBSYS_NFTABLES.to_be_bytes();
    Message::new(kind, 0).bytes(&[0, 0, high, low])
}

pub(super) fn get_generation() -> Message {
    Message::new(SUBSYS_NFTABLES << 8 | GETGEN, 0).bytes(&[0; NFGENMSG])
}

/// A comment as libnftnl stores it: type, length, NUL-terminated text.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(254)];
    let len = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[UDATA_COMMENT, len], text, &[0]].concat()
}

/// The comment among other such records.
pub(super) fn read_comment(mut udata: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = udata {
        let value = rest.get(..usize::from(*len))?;
        if *kind == UDATA_COMMENT {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return String::from_utf8(text.to_vec()).ok();
        }
        udata = &rest[usize::from(*len)..];
    }
    None
}

/// A table's comment.
pub(super) fn version_comment(version: &str) -> Vec<u8> {
    comment(&format!("{VERSION_PREFIX}{version}"))
}

/// The version in a table's comment; `None` when it is not our table.
pub(super) fn version(udata: Option<&[u8]>) -> Option<String> {
    read_comment(udata?)?.strip_prefix(VERSION_PREFIX).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_reads_back_and_is_found_behind_other_records() {
        assert_eq!(comment("pw"), [0, 3, b'p', b'w', 0]);
        assert_eq!(read_comment(&comment("podwire:1:2")), Some("podwire:1:2".to_owned()));
        assert_eq!(read_comment(&[&[4, 1, 9], comment("x").as_slice()].concat()), Some("x".to_owned()));
        assert_eq!(version(Some(&version_comment("abc"))), Some("abc".to_owned()));
        assert_eq!(version(Some(&comment("somebody's"))), None);
    }

    #[test]
    fn cut_off_records_are_no_comment() {
        for udata in [&[][..], &[0], &[0, 5, b'x'], &[4, 200]] {
            assert_eq!(read_comment(udata), None, "{udata:?}");
        }
    }
}
