//! The generated tables hold together.

use onemec_onem2m::tables::*;
use onemec_onem2m::{AttrId, Rsc, Ty};

#[test]
fn every_implemented_type_has_its_row_and_attributes() {
    for ty in IMPLEMENTED {
        let info = ty.info().unwrap();
        assert!(info.attributes.len() > 10 && !info.virtual_resource && info.release == 3, "{}", info.name);
        assert_eq!(Ty::from_root(info.root), Some(*ty));
        for id in [AttrId::RN, AttrId::RI, AttrId::PI, AttrId::TY, AttrId::CT] {
            assert!(info.has(id), "{} {}", info.name, id.short());
        }
    }
}

#[test]
fn attributes_are_sorted_and_names_are_interned_once() {
    for info in RESOURCE_TYPES {
        assert!(info.attributes.windows(2).all(|w| w[0].id < w[1].id), "{}", info.name);
        for attribute in info.attributes {
            assert_eq!(AttrId::from_short(attribute.id.short()), Some(attribute.id));
            assert_eq!(info.attribute(attribute.id), Some(attribute));
        }
    }
    assert_eq!(AttrId::from_short("no such attribute"), None);
    assert_eq!(AttrId::RN.short(), "rn");
}

#[test]
fn numbers_and_names_of_types_are_unique() {
    for (i, a) in RESOURCE_TYPES.iter().enumerate() {
        for b in &RESOURCE_TYPES[..i] {
            assert!(a.name != b.name && a.root != b.root && (a.ty.is_none() || a.ty != b.ty), "{} {}", a.name, b.name);
        }
    }
}

#[test]
fn every_release_3_type_is_there() {
    let missing: Vec<u16> = (1..=51).filter(|n| ![22, 33].contains(n) && Ty(*n).info().is_none()).collect();
    assert_eq!(missing, [0_u16; 0]);
    for name in ["la", "ol", "fopt", "sfop", "pcu", "ntsr", "smv", "msp"] {
        assert!(ResourceType::virtual_named(name).is_some(), "{name}");
    }
    assert!(ResourceType::virtual_named("cnt").is_none());
}

#[test]
fn children() {
    let allows = |parent: Ty, child: Ty| parent.info().unwrap().allows_child(child);
    assert!(
        allows(Ty::CSE_BASE, Ty::AE) && allows(Ty::AE, Ty::CONTAINER) && allows(Ty::CONTAINER, Ty::CONTENT_INSTANCE)
    );
    assert!(allows(Ty::CONTAINER, Ty::SUBSCRIPTION) && allows(Ty::NODE, Ty::MGMT_OBJ));
    assert!(
        !allows(Ty::AE, Ty::CONTENT_INSTANCE)
            && !allows(Ty::CONTENT_INSTANCE, Ty::SUBSCRIPTION)
            && !allows(Ty::AE, Ty::AE)
    );
    assert!(Ty::CONTAINER.info().unwrap().children().any(|c| c.short == "la"));
}

#[test]
fn announced_types_have_link_and_announceable_attributes() {
    let info = Ty(10003).info().unwrap();
    assert_eq!((info.name, info.root, info.original), ("containerAnnc", "m2m:cntA", Some(Ty::CONTAINER)));
    assert_eq!(info.attribute(AttrId::LNK).unwrap().create, Optionality::Mandatory);
    assert!(info.has(AttrId::MNI) && !info.has(AttrId::CNI));
}

#[test]
fn indexes_of_data_types_are_inside_their_tables() {
    let check = |data: DataType| match data {
        DataType::Enum(i) => assert!(usize::from(i) < ENUMS.len()),
        DataType::Complex(i) => assert!(usize::from(i) < COMPLEX.len()),
        _ => {}
    };
    RESOURCE_TYPES.iter().flat_map(|t| t.attributes).for_each(|a| check(a.data));
    COMPLEX.iter().flat_map(|c| c.members).for_each(|m| check(m.data));
    assert!(ENUMS.windows(2).all(|w| w[0].name < w[1].name));
}

#[test]
fn ts0009_6_3_2_status_codes() {
    assert!(STATUS_CODES.windows(2).all(|w| w[0].rsc < w[1].rsc));
    for (rsc, name, http) in [
        (Rsc::CREATED, "CREATED", 201),
        (Rsc::NOT_FOUND, "NOT_FOUND", 404),
        (Rsc::ORIGINATOR_HAS_NO_PRIVILEGE, "ORIGINATOR_HAS_NO_PRIVILEGE", 403),
        (Rsc::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", 504),
        (Rsc::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", 406),
        (Rsc::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", 501),
    ] {
        assert_eq!((rsc.name(), rsc.http_status()), (Some(name), http));
    }
    assert_eq!((Rsc(4999).name(), Rsc(4999).http_status(), Rsc(2999).http_status()), (None, 400, 200));
    assert!(Rsc::ACCEPTED.is_success() && !Rsc::NOT_FOUND.is_success());
}
