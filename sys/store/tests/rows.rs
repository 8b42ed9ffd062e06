//! What is kept, and how it is found again.

use std::net::IpAddr;

use model::{ContainerId, ImageId, Network, NetworkId, PortMapping, PortSpec, Subnet};
use plan::{Address, Object, Op, Place, Plan, Ruleset, Sandbox, SandboxName};
use podwire_store::{ContainerRow, EVENTS_KEPT, Event, Lookup, Store, StoreError};
use serde_json::{Value, json};

fn scratch() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn container(n: u8) -> ContainerId {
    ContainerId::from_bytes([n; 32])
}

fn row(n: u8, name: &str) -> ContainerRow {
    let image = Some(ImageId::from_bytes([7; 32]));
    ContainerRow { id: container(n), name: name.to_owned(), image, state: "created".to_owned(), created: n.into() }
}

fn network(n: u8, name: &str) -> Network {
    serde_json::from_value(json!({
        "name": name, "id": NetworkId::from_bytes([n; 32]), "driver": "bridge", "network_interface": "podman1",
        "created": "2026-11-24T15:00:00Z", "subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}],
        "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": {"driver": "host-local"}
    }))
    .unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_container_is_found_by_name_then_id_then_the_beginning_of_an_id() {
    let (_directory, store) = scratch();
    store
        .write(|tx| {
            tx.container_insert(&row(0x11, "web"), &json!({"command": ["true"]}))?;
            tx.container_insert(&row(0x12, "11"), &json!({}))?;
            tx.container_insert(&row(0x22, "db"), &json!({}))
        })
        .unwrap();
    let find = |text: &str| store.read(|tx| tx.container_find(text)).unwrap();
    assert_eq!(find("web"), Lookup::Found(container(0x11)));
    assert_eq!(find("11"), Lookup::Found(container(0x12)), "a name wins over the beginning of an id");
    assert_eq!(find(&container(0x22).to_string()), Lookup::Found(container(0x22)));
    assert_eq!(find("2"), Lookup::Found(container(0x22)));
    assert_eq!(find("1"), Lookup::Ambiguous);
    for nobody in ["", "3", "we", "2%", "_", "G", "2g"] {
        assert_eq!(find(nobody), Lookup::NotFound, "{nobody:?}");
    }
}

#[test]
fn a_name_has_one_container_and_who_has_it_is_said() {
    let (_directory, store) = scratch();
    store.write(|tx| tx.container_insert(&row(1, "web"), &Value::Null)).unwrap();
    let refused = store.write(|tx| tx.container_insert(&row(2, "web"), &Value::Null)).unwrap_err();
    assert!(matches!(&refused, StoreError::NameInUse { name, id } if name == "web" && *id == container(1)));
    assert_eq!(store.read(|tx| tx.containers()).unwrap().len(), 1);
    store.write(|tx| tx.container_insert(&row(2, "db"), &Value::Null)).unwrap();
    assert!(store.write(|tx| tx.container_rename(&container(2), "web")).is_err());
    store.write(|tx| tx.container_rename(&container(2), "db")).unwrap();
}

#[test]
fn a_container_changes_state_with_its_document() {
    let (_directory, store) = scratch();
    store.write(|tx| tx.container_insert(&row(1, "web"), &json!({"pid": 0}))).unwrap();
    assert!(store.write(|tx| tx.container_update(&container(1), "running", &json!({"pid": 4711}))).unwrap());
    assert!(!store.write(|tx| tx.container_update(&container(2), "running", &Value::Null)).unwrap());
    let (found, doc) = store.read(|tx| tx.container_doc::<Value>(&container(1))).unwrap().unwrap();
    assert_eq!((found.state.as_str(), doc), ("running", json!({"pid": 4711})));
    let running = store.read(|tx| tx.containers_in_state(&["running", "stopped"])).unwrap();
    assert_eq!(running.len(), 1);
    assert_eq!(store.read(|tx| tx.container_count("created")).unwrap(), 0);
    assert_eq!(store.read(|tx| tx.containers_of_image(&found.image.unwrap())).unwrap(), [container(1)]);
    store.write(|tx| tx.container_remove(&container(1))).unwrap();
    assert_eq!(store.read(|tx| tx.container_doc::<Value>(&container(1))).unwrap(), None);
}

#[test]
fn what_a_failed_transaction_did_is_not_there() {
    let (_directory, store) = scratch();
    let failed: Result<(), StoreError> = store.write(|tx| {
        tx.meta_set("key", "value")?;
        Err(StoreError::Busy { path: "x".into() })
    });
    assert!(failed.is_err());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.write_durable::<(), StoreError>(|tx| {
            tx.meta_set("key", "value")?;
            std::panic::resume_unwind(Box::new(()))
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(store.read(|tx| tx.meta_get("key")).unwrap(), None);
    store.write(|tx| tx.meta_set("key", "value")).unwrap();
    assert_eq!(store.read(|tx| tx.meta_get("key")).unwrap().as_deref(), Some("value"));
}

#[test]
fn networks_are_unique_in_their_scope_only() {
    let (_directory, store) = scratch();
    let (shop, other) = (network(1, "shop"), network(2, "shop"));
    store.write_durable(|tx| tx.network_insert("", &shop)).unwrap();
    assert!(matches!(
        store.write(|tx| tx.network_insert("", &other)).unwrap_err(),
        StoreError::NetworkExists { name } if name == "shop"
    ));
    assert!(store.write(|tx| tx.network_insert("", &network(1, "same-id"))).is_err());
    store.write(|tx| tx.network_insert("/tmp/conf", &shop)).unwrap();
    assert_eq!(store.read(|tx| tx.networks("")).unwrap(), std::slice::from_ref(&shop));
    assert_eq!(store.read(|tx| tx.network("", "shop")).unwrap().as_ref(), Some(&shop));

    let labelled = Network { labels: [("a".to_owned(), "b".to_owned())].into(), ..shop.clone() };
    store.write(|tx| tx.network_update("", &labelled)).unwrap();
    assert_eq!(store.read(|tx| tx.networks("")).unwrap(), [labelled]);
    store.write(|tx| tx.network_remove(&shop.id)).unwrap();
    assert_eq!(store.read(|tx| tx.networks("")).unwrap(), []);
}

#[test]
fn attachments_come_in_order_and_the_last_endpoint_of_a_network_is_known() {
    let (_directory, store) = scratch();
    let (a, b) = (network(1, "a").id, network(2, "b").id);
    store
        .write(|tx| {
            tx.attachment_put(&container(1), &a, 1, &Value::Null)?;
            tx.attachment_put(&container(1), &b, 0, &Value::Null)?;
            tx.attachment_put(&container(2), &a, 0, &json!({"link": "eth0"}))
        })
        .unwrap();
    let of = store.read(|tx| tx.attachments_of(&container(1))).unwrap();
    assert_eq!(of, [(b, 0, Value::Null), (a, 1, Value::Null)]);
    let on = store.read(|tx| tx.attachments_on(&a)).unwrap();
    assert_eq!(on, [(container(1), Value::Null), (container(2), json!({"link": "eth0"}))]);
    assert_eq!(store.read(|tx| tx.attachment_count(&a)).unwrap(), 2);
    let up = store.read(|tx| tx.attachments_up()).unwrap();
    assert_eq!(up, [(container(2), a, json!({"link": "eth0"}))]);

    let other = |but: Option<u8>| store.read(|tx| tx.endpoint_on(&a, but.map(container).as_ref())).unwrap();
    assert_eq!(other(None), Some(container(2)));
    assert_eq!(other(Some(1)), Some(container(2)));
    assert_eq!(other(Some(2)), None, "container 1 is not up");

    store.write(|tx| tx.attachment_remove(&container(2), &a)).unwrap();
    store.write(|tx| tx.attachments_remove(&container(1))).unwrap();
    assert_eq!(store.read(|tx| tx.attachment_count(&a)).unwrap(), 0);
}

#[test]
fn an_address_has_one_holder_and_is_remembered_for_a_minute() {
    let (_directory, store) = scratch();
    let network = network(1, "a").id;
    let lease = |address: &str, n| store.write(|tx| tx.lease(&network, &ip(address), &container(n)));
    lease("10.89.0.2", 1).unwrap();
    lease("10.89.0.2", 1).unwrap();
    assert!(matches!(
        lease("10.89.0.2", 2).unwrap_err(),
        StoreError::AddressInUse { ip: taken, holder } if taken == ip("10.89.0.2") && holder == container(1)
    ));
    lease("fd00::2", 1).unwrap();
    lease("10.89.0.10", 2).unwrap();

    store.write(|tx| tx.leases_release(&container(1), 1000)).unwrap();
    assert_eq!(store.read(|tx| tx.lease_taken(&network, &ip("10.89.0.2"))).unwrap(), None);
    let shown = |store: &Store| {
        let leases = store.read(|tx| tx.leases(&network)).unwrap();
        leases.iter().map(|l| format!("{} {:?}", l.ip, l.released)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&store), ["10.89.0.2 Some(1000)", "10.89.0.10 None", "fd00::2 Some(1000)"]);
    store.write(|tx| tx.leases_forget(1059)).unwrap();
    assert_eq!(shown(&store).len(), 3);
    store.write(|tx| tx.leases_forget(1060)).unwrap();
    assert_eq!(shown(&store), ["10.89.0.10 None", "fd00::2 Some(1000)"], "the latest of a family stays");
    lease("10.89.0.2", 2).unwrap();
}

#[test]
fn the_last_lease_of_a_subnet_is_the_one_given_last_not_the_highest() {
    let (_directory, store) = scratch();
    let network = network(1, "a").id;
    let last = |subnet: &str| store.read(|tx| tx.last_lease(&network, &subnet.parse::<Subnet>().unwrap())).unwrap();
    assert_eq!(last("10.89.0.0/24"), None);
    for address in ["10.89.0.9", "10.89.0.2", "10.89.1.7", "fd00::2"] {
        store.write(|tx| tx.lease(&network, &ip(address), &container(1))).unwrap();
    }
    assert_eq!(last("10.89.0.0/24"), Some(ip("10.89.0.2")));
    assert_eq!(last("10.89.1.0/24"), Some(ip("10.89.1.7")));
    assert_eq!(last("fd00::/64"), Some(ip("fd00::2")));
    assert_eq!(last("fd01::/64"), None);
}

fn mapping(text: &str) -> PortMapping {
    let spec: PortSpec = text.parse().unwrap();
    spec.at(spec.host_port.unwrap())
}

#[test]
fn a_port_clash_is_what_the_model_calls_one() {
    let (_directory, store) = scratch();
    let texts = [
        "8080:80",
        "127.0.0.1:8081:80",
        "[::1]:8081:80",
        "9000-9100:9000-9100",
        "8080:80/udp",
        "0.0.0.0:53:53/udp",
        "[::]:54:53/udp",
        "1-20:1-20/sctp",
        "65535:1",
        "60000-65535:60000-65535/udp",
    ];
    for (n, text) in texts.iter().enumerate() {
        store.write(|tx| tx.ports_put(&container(n as u8), &[mapping(text)])).unwrap();
    }
    let wishes = [
        "8080:1",
        "8081:1",
        "127.0.0.1:8081:1",
        "127.0.0.2:8081:1",
        "8079-8081:1-3",
        "8999:1",
        "9100:1",
        "9101:1",
        "53:1/udp",
        "[::]:53:1/udp",
        "20:1/sctp",
        "21:1/sctp",
        "20:1",
        "65535:9",
        "1-65535:1-65535",
        "65535:1/udp",
        "10.0.0.1:54:1/udp",
        "[fe80::1]:54:1/udp",
    ];
    for wish in wishes.map(mapping) {
        let clash = store.read(|tx| tx.port_clash(&wish)).unwrap();
        let expected = texts.iter().any(|text| mapping(text).clashes(&wish));
        assert_eq!(clash.is_some(), expected, "{wish:?}");
        if let Some((holder, held)) = clash {
            let n = texts.iter().position(|text| mapping(text) == held).unwrap();
            assert_eq!(holder, container(n as u8));
            assert!(held.clashes(&wish));
        }
    }
    assert_eq!(store.read(|tx| tx.ports_of(&container(0))).unwrap(), [mapping("8080:80")]);
    store.write(|tx| tx.ports_remove(&container(0))).unwrap();
    assert_eq!(store.read(|tx| tx.port_clash(&mapping("8080:1"))).unwrap(), None);
}

fn objects() -> [Object; 3] {
    let name: SandboxName = "podwire-0123456789ab".parse().unwrap();
    let place = Place::Sandbox(name.clone());
    [
        Object::Sandbox(Sandbox { name }),
        Object::Address(Address { place, link: "eth0".parse().unwrap(), addr: "10.88.0.2/16".parse().unwrap() }),
        Object::Ruleset(Ruleset { version: "1".to_owned() }),
    ]
}

#[test]
fn objects_are_recorded_once_and_in_order() {
    let (_directory, store) = scratch();
    let [sandbox, address, rules] = objects();
    let newer = Object::Ruleset(Ruleset { version: "2".to_owned() });
    store
        .write(|tx| {
            tx.made_put("base", &[rules])?;
            tx.made_put("c1", &[sandbox.clone(), address.clone()])?;
            tx.made_put("c2", std::slice::from_ref(&newer))
        })
        .unwrap();
    let of = |owners: &[&str]| store.read(|tx| tx.made(owners)).unwrap();
    let is = |owner: &str, object: &Object| (owner.to_owned(), object.clone());
    assert_eq!(of(&["base", "nobody"]), []);
    assert_eq!(of(&["c2", "c1"]), [is("c2", &newer), is("c1", &sandbox), is("c1", &address)]);
    assert_eq!(store.read(|tx| tx.made_all()).unwrap(), [is("c2", &newer), is("c1", &sandbox), is("c1", &address)]);
    let made_for = |object: &Object| store.read(|tx| tx.made_for(&object.key())).unwrap();
    assert_eq!(made_for(&newer).as_deref(), Some("c2"));
    store.write(|tx| tx.made_remove(&[sandbox.key(), newer.key(), newer.key()])).unwrap();
    assert_eq!(store.read(|tx| tx.made_all()).unwrap(), [is("c1", &address)]);
    assert_eq!(made_for(&newer), None);
}

#[test]
fn a_plan_stays_in_the_journal_until_ended() {
    let (_directory, store) = scratch();
    let [sandbox, address, rules] = objects();
    let plan = Plan {
        ops: vec![Op::Create(sandbox), Op::Remove(address), Op::Change { from: rules.clone(), to: rules }],
        ..Plan::default()
    };
    let first = store.write(|tx| tx.journal_begin("c1", &plan)).unwrap();
    let second = store.write(|tx| tx.journal_begin("c2", &Plan::default())).unwrap();
    let journal = store.read(|tx| tx.journal()).unwrap();
    assert_eq!(journal, [(first, "c1".to_owned(), plan), (second, "c2".to_owned(), Plan::default())]);
    store.write(|tx| tx.journal_end(first)).unwrap();
    store.write(|tx| tx.journal_end(first)).unwrap();
    assert_eq!(store.read(|tx| tx.journal()).unwrap().len(), 1);
    let third = store.write(|tx| tx.journal_begin("c1", &Plan::default())).unwrap();
    assert!(third > second, "a number never comes again");
}

#[test]
fn layers_are_shared_and_unused_ones_are_known() {
    let (_directory, store) = scratch();
    let (one, two) = (ImageId::from_bytes([1; 32]), ImageId::from_bytes([2; 32]));
    let (base, top, late) = store
        .write(|tx| {
            let (base, top, late) = (tx.layer_begin()?, tx.layer_begin()?, tx.layer_begin()?);
            assert_eq!(tx.layer_done(base, "sha256:a", "sha256:a", 10)?, base);
            assert_eq!(tx.layer_done(top, "sha256:b", "sha256:ab", 20)?, top);
            assert_eq!(tx.layer_done(late, "sha256:a", "sha256:a", 10)?, base, "somebody was first");
            tx.image_put(&one, &json!({"n": 1}), &[top, base])?;
            tx.image_put(&two, &json!({"n": 2}), &[base])?;
            tx.name_set("localhost/one:latest", &one)?;
            Ok::<_, StoreError>((base, top, late))
        })
        .unwrap();
    assert_eq!(store.read(|tx| tx.layers_unused()).unwrap(), [] as [i64; 0]);
    assert_eq!(store.read(|tx| tx.image_layers(&one)).unwrap(), [top, base]);
    assert_eq!(store.read(|tx| tx.layer(top)).unwrap(), Some(("sha256:b".to_owned(), 20)));
    assert_eq!(store.read(|tx| tx.layer(late)).unwrap(), None);
    assert_eq!(store.read(|tx| tx.image_doc::<Value>(&two)).unwrap(), Some(json!({"n": 2})));
    assert_eq!(store.read(|tx| tx.images()).unwrap().len(), 2);
    assert_eq!(store.read(|tx| tx.images_beginning("01")).unwrap(), [one]);
    assert_eq!(store.read(|tx| tx.images_beginning("0")).unwrap(), [one, two]);

    store.write(|tx| tx.image_remove(&one)).unwrap();
    assert_eq!(store.read(|tx| tx.name_get("localhost/one:latest")).unwrap(), None);
    assert_eq!(store.read(|tx| tx.layers_unused()).unwrap(), [top]);
    store.write(|tx| tx.layer_remove(top)).unwrap();
    assert_eq!(store.read(|tx| tx.layer_by_chain("sha256:ab")).unwrap(), None);
    assert_eq!(store.read(|tx| tx.layer_by_chain("sha256:a")).unwrap(), Some(base));
}

#[test]
fn an_image_name_moves_to_the_next_image() {
    let (_directory, store) = scratch();
    let (one, two) = (ImageId::from_bytes([1; 32]), ImageId::from_bytes([2; 32]));
    store.write(|tx| tx.name_set("quay.io/x:1", &one)).unwrap();
    store.write(|tx| tx.name_set("quay.io/x:1", &two)).unwrap();
    assert_eq!(store.read(|tx| tx.names_of(&one)).unwrap(), [] as [&str; 0]);
    assert_eq!(store.read(|tx| tx.names_of(&two)).unwrap(), ["quay.io/x:1"]);
    assert_eq!(store.read(|tx| tx.names()).unwrap(), [("quay.io/x:1".to_owned(), two)]);
    assert!(store.write(|tx| tx.name_remove("quay.io/x:1")).unwrap());
    assert!(!store.write(|tx| tx.name_remove("quay.io/x:1")).unwrap());
}

#[test]
fn volumes_are_kept_by_name() {
    let (_directory, store) = scratch();
    store.write(|tx| tx.volume_put("data", &json!({"n": 1}))).unwrap();
    store.write(|tx| tx.volume_put("data", &json!({"n": 2}))).unwrap();
    assert_eq!(store.read(|tx| tx.volume::<Value>("data")).unwrap(), Some(json!({"n": 2})));
    assert_eq!(store.read(|tx| tx.volumes()).unwrap(), [("data".to_owned(), json!({"n": 2}))]);
    assert!(store.write(|tx| tx.volume_remove("data")).unwrap());
    assert!(!store.write(|tx| tx.volume_remove("data")).unwrap());
}

#[test]
fn a_reboot_takes_run_time_rows_and_nothing_else() {
    let (_directory, store) = scratch();
    let [sandbox, ..] = objects();
    let shop = network(1, "shop");
    store
        .write(|tx| {
            tx.set_identity("boot 1")?;
            tx.network_insert("", &shop)?;
            tx.container_insert(&row(1, "web"), &Value::Null)?;
            tx.attachment_put(&container(1), &shop.id, 0, &json!({"link": "eth0"}))?;
            tx.lease(&shop.id, &ip("10.89.0.2"), &container(1))?;
            tx.made_put("c1", &[sandbox])?;
            tx.journal_begin("c1", &Plan::default())?;
            tx.ports_put(&container(1), &[mapping("8080:80")])
        })
        .unwrap();
    store.write(|tx| tx.drop_runtime()).unwrap();
    store
        .read(|tx| {
            assert_eq!(tx.identity()?.as_deref(), Some("boot 1"));
            assert_eq!(tx.networks("")?.len(), 1);
            assert_eq!(tx.containers()?.len(), 1);
            assert_eq!(tx.attachments_of(&container(1))?, [(shop.id, 0, Value::Null)]);
            assert_eq!(tx.endpoint_on(&shop.id, None)?, None);
            assert_eq!(tx.leases(&shop.id)?, []);
            assert_eq!(tx.made_all()?, []);
            assert_eq!(tx.journal()?, []);
            assert_eq!(tx.port_clash(&mapping("8080:80"))?, None);
            Ok::<_, StoreError>(())
        })
        .unwrap();
}

#[test]
fn events_are_found_in_order_and_the_oldest_are_dropped() {
    let (_directory, store) = scratch();
    let add = |tx: &podwire_store::Tx<'_>, n: i64| tx.event_add(&Event::volume("create", &format!("v{n}")));
    store.write(|tx| (0..3).try_for_each(|n| add(tx, n))).unwrap();
    let after = |seq| store.read(|tx| tx.events_after(seq)).unwrap();
    assert_eq!(after(0).iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["v0", "v1", "v2"]);
    let last = store.read(|tx| tx.event_last()).unwrap();
    assert_eq!(after(last), []);
    store.write(|tx| (3..EVENTS_KEPT + 10).try_for_each(|n| add(tx, n))).unwrap();
    let all = after(0);
    assert_eq!((all.len() as i64, all[0].name.as_str()), (EVENTS_KEPT, "v10"));
    assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq && pair[0].time <= pair[1].time));
}

#[test]
fn an_event_of_a_network_names_its_driver() {
    let event = Event::network("create", &network(1, "shop"));
    assert_eq!(event.network, "shop");
    assert_eq!(event.attributes.unwrap()["driver"], "bridge");
}

#[test]
fn addresses_are_kept_for_a_container_until_it_or_the_network_is_removed() {
    let (_directory, store) = scratch();
    let (one, two) = (container(1), container(2));
    let net = network(9, "shop");
    store
        .write(|tx| {
            tx.network_insert("", &net)?;
            tx.container_insert(&row(1, "web"), &json!({}))?;
            tx.address_keep(&one, &net.id, &ip("10.89.0.9"), true)?;
            tx.address_keep(&one, &net.id, &ip("10.89.0.9"), false)?;
            tx.address_keep(&one, &net.id, &ip("fd00::2"), false)?;
            tx.address_keep(&two, &net.id, &ip("10.89.0.9"), true)?;
            tx.drop_runtime()
        })
        .unwrap();
    let fixed = || store.read(|tx| tx.addresses_fixed(&net.id)).unwrap();
    let last = || store.read(|tx| tx.addresses_last(&one, &net.id)).unwrap();
    assert_eq!(fixed(), [(ip("10.89.0.9"), one), (ip("10.89.0.9"), two)]);
    assert_eq!(last(), [ip("fd00::2")], "an address asked for stays asked for");
    store.write(|tx| tx.addresses_unkeep(&one, &net.id, false)).unwrap();
    assert_eq!((fixed().len(), last().len()), (2, 0));
    store.write(|tx| tx.container_remove(&one)).unwrap();
    assert_eq!(fixed(), [(ip("10.89.0.9"), two)]);
    store.write(|tx| tx.network_remove(&net.id)).unwrap();
    assert_eq!(fixed(), []);
}

#[test]
fn what_a_lan_lent_outlives_runs_and_the_machines_and_goes_with_the_container_or_the_network() {
    let (_directory, store) = scratch();
    let (one, net, other) = (container(1), network(9, "lan"), network(8, "lab"));
    let put = |net: &NetworkId, ipv4, what: &str| store.write(|tx| tx.lan_lease_put(&one, net, ipv4, &what)).unwrap();
    let of = || {
        let leases = store.read(|tx| tx.lan_leases_of(&one)).unwrap();
        leases.into_iter().map(|l| (l.network, l.ipv4, l.held, l.lease)).collect::<Vec<_>>()
    };
    let held = || store.read(|tx| tx.lan_leases_held()).unwrap().len();
    put(&net.id, true, "a");
    put(&net.id, true, "b");
    put(&net.id, false, "c");
    put(&other.id, true, "d");
    store.write(|tx| tx.drop_runtime()).unwrap();
    let all = |b, c, d| {
        let row = |id, ipv4, held, text: &str| (id, ipv4, held, json!(text));
        vec![row(other.id, true, d, "d"), row(net.id, true, b, "b"), row(net.id, false, c, "c")]
    };
    assert_eq!((of(), held()), (all(true, true, true), 3));
    store.write(|tx| tx.lan_lease_lost(&one, &net.id, false)).unwrap();
    assert_eq!((of(), held()), (all(true, false, true), 2));
    store.write(|tx| tx.lan_leases_release(&one, &net.id)).unwrap();
    assert_eq!((of(), held()), (all(false, false, true), 1));
    store.write(|tx| tx.lan_leases_release(&one, &other.id)).unwrap();
    assert_eq!(held(), 0);
    store.write(|tx| tx.lan_leases_forget(&one, &other.id)).unwrap();
    assert_eq!(of().len(), 2);
    store.write(|tx| tx.network_remove(&net.id)).unwrap();
    assert_eq!(of(), []);
    put(&other.id, true, "e");
    store.write(|tx| tx.container_remove(&one)).unwrap();
    assert_eq!(of(), []);
}

#[test]
fn a_file_of_the_first_format_is_brought_forward_with_what_is_in_it() {
    let (directory, store) = scratch();
    store.write(|tx| tx.container_insert(&row(1, "web"), &json!({}))).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(directory.path().join(Store::FILE)).unwrap();
    let later =
        "SELECT type, name FROM sqlite_schema WHERE sql IS NOT NULL AND (name IN ('event', 'kept_address', 'lan_lease', 'pod')
                 OR name IN ('attachment_host_link', 'attachment_mac', 'container_sharer', 'container_pod')) ORDER BY type DESC";
    let mut statement = connection.prepare(later).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    let drops: Vec<String> = rows.map(|row| row.map(|(what, name)| format!("DROP {what} {name};")).unwrap()).collect();
    assert_eq!(drops.len(), 8);
    connection.execute_batch(&(drops.concat() + "PRAGMA user_version=1")).unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.read(|tx| tx.container_find("web")).unwrap(), Lookup::Found(container(1)));
    store.write(|tx| tx.event_add(&Event::volume("create", "v"))).unwrap();
    assert_eq!(store.read(|tx| tx.containers_sharing(&container(1))).unwrap(), []);
}

#[test]
fn who_uses_a_containers_network_is_found() {
    let (_directory, store) = scratch();
    let sharing = |owner: ContainerId| json!({"settings": {"network": {"mode": {"Container": owner}}}});
    store
        .write(|tx| {
            tx.container_insert(&row(1, "owner"), &json!({"settings": {"network": {"mode": "None"}}}))?;
            tx.container_insert(&row(3, "late"), &sharing(container(1)))?;
            tx.container_insert(&row(2, "early"), &sharing(container(1)))
        })
        .unwrap();
    let of = |n| store.read(|tx| tx.containers_sharing(&container(n))).unwrap();
    assert_eq!((of(1), of(2)), (vec![container(2), container(3)], Vec::new()));
}

#[test]
fn who_has_a_link_or_a_mac_is_found() {
    let (_directory, store) = scratch();
    let net = NetworkId::from_bytes([9; 32]);
    let endpoint = json!({"endpoint": {"host_link": "veth-web", "mac": "02:00:00:00:00:01"}});
    store.write(|tx| tx.attachment_put(&container(1), &net, 0, &endpoint)).unwrap();
    let link = |name: &str| store.read(|tx| tx.host_link_holder(name)).unwrap();
    let mac = |text: &str| store.read(|tx| tx.mac_holder(&net, text)).unwrap();
    assert_eq!((link("veth-web"), link("veth")), (Some(container(1)), None));
    assert_eq!((mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02")), (Some(container(1)), None));
}

#[test]
fn every_look_up_goes_by_an_index() {
    let (directory, store) = scratch();
    drop(store);
    let connection = rusqlite::Connection::open(directory.path().join(Store::FILE)).unwrap();
    let sources = [
        "containers",
        "events",
        "images",
        "kept",
        "lan",
        "leases",
        "meta",
        "networks",
        "plans",
        "pods",
        "ports",
        "volumes",
    ];
    let mut looked_at = 0;
    for source in sources {
        let text = std::fs::read_to_string(format!("{}/src/{source}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let literals = text.split('"').skip(1).step_by(2);
        for sql in literals.filter(|t| ["SELECT", "UPDATE", "DELETE"].iter().any(|verb| t.starts_with(verb))) {
            // Listings of a whole table have no condition but this one; two are for after a crash and a reboot.
            let listing = sql.contains("endpoint <> 'null'") && sql.contains("ORDER BY container");
            let rare = listing || sql.contains("NOT EXISTS") || sql.starts_with("UPDATE attachment SET endpoint");
            if rare || !sql.contains("WHERE") {
                continue;
            }
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            for n in 1..=explain.parameter_count() {
                explain.raw_bind_parameter(n, "1").unwrap();
            }
            let mut rows = explain.raw_query();
            while let Some(row) = rows.next().unwrap() {
                let step: String = row.get(3).unwrap();
                assert!(!step.starts_with("SCAN"), "{source}: {sql}\n{step}");
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 30, "only {looked_at} statements found");
}
