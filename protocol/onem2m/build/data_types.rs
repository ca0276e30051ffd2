//! Names of data types in the tables -> variants of `tables::DataType`.

use std::collections::BTreeMap;

/// What names stand for: indexes into the generated `ENUMS` and `COMPLEX`.
pub(crate) struct Names {
    pub(crate) enums: BTreeMap<String, usize>,
    pub(crate) complex: BTreeMap<String, usize>,
}

impl Names {
    /// The Rust expression of a data type, and whether its name says that it is a list.
    pub(crate) fn expression(&self, name: &str, acme: &str) -> (String, bool) {
        let name = name.trim();
        if name.is_empty() || name.starts_with("See ") || name.starts_with("Name and") {
            // Attributes outside the release 3 tables: the type that ACME gives them.
            return if acme.is_empty() { ("DataType::Any".into(), false) } else { self.expression(acme, "") };
        }
        for prefix in ["list of 3 ", "list of ", "List of ", "list<enum>:", "listNE<enum>:"] {
            if let Some(element) = name.strip_prefix(prefix) {
                return (self.expression(element, "").0, true);
            }
        }
        for prefix in ["list<", "listNE<", "ARRAY("] {
            if let Some(element) = name.strip_prefix(prefix) {
                return (self.expression(element.trim_end_matches(['>', ')']), "").0, true);
            }
        }
        let list = |element: &str| (format!("DataType::{element}"), true);
        let single = |variant: &str| (format!("DataType::{variant}"), false);
        let bare = name.strip_prefix("enum:").unwrap_or(name);
        match bare {
            "m2m:labels" => list("Label"),
            "m2m:acpType" | "m2m:listOfURIs" | "m2m:poaList" => list("Uri"),
            "m2m:listOfM2MID" => list("Id"),
            "m2m:serializations" | "m2m:supportedReleaseVersions" | "m2m:sessionCapabilities" => list("Text"),
            "m2m:attributeList" => list("NcName"),
            "m2m:signatureList" => list("Text"),
            "m2m:resourceTypeList" => list("ResourceType"),
            "m2m:listOfMinMax" => list("Integer"),
            "xs:anyURI" | "anyURI" | "m2m:nhURI" => single("Uri"),
            "m2m:ID" | "ID" | "IDCSR" | "AEID" | "CSEID" | "SPID" => single("Id"),
            "m2m:resourceName" => single("Name"),
            "xs:NCName" | "ncname" => single("NcName"),
            "xs:string"
            | "string"
            | "token"
            | "TEXT"
            | "m2m:nodeID"
            | "m2m:externalID"
            | "m2m:triggerRecipientID"
            | "m2m:sparql"
            | "m2m:roleID"
            | "m2m:tokenID"
            | "m2m:dynAuthJWT"
            | "m2m:e2eCompactJWE"
            | "m2m:requestID"
            | "m2m:typeOfContent"
            | "m2m:releaseVersion"
            | "m2m:locationTargetID"
            | "imsi"
            | "iccid"
            | "m2m:ipv4"
            | "m2m:ipv6"
            | "m2m:countryCode" => single("Text"),
            "STRING" => single("Text"),
            n if n.starts_with("STRING(") => single("Text"),
            // A number (mgmtObj) or an address (flexContainer) in release 3, an object later.
            "m2m:specializationType" => single("Any"),
            "m2m:contentInfo" => single("ContentInfo"),
            "xs:boolean" | "boolean" => single("Bool"),
            "xs:nonNegativeInteger" | "nonNegInteger" | "nonNegInteger>" | "xs:unsignedLong" | "unsignedLong" => {
                single("NonNegative")
            }
            "xs:unsignedInt" | "unsignedInt" => single("UnsignedInt"),
            "xs:positiveInteger" | "positiveInteger" => single("Positive"),
            "xs:long" | "integer" | "INTEGER" => single("Integer"),
            "xs:float" | "xs:double" => single("Float"),
            "m2m:timestamp" | "timestamp" => single("Timestamp"),
            "m2m:absRelTimestamp" | "absRelTimestamp" => single("AbsRelTimestamp"),
            "xs:duration" | "duration" => single("Duration"),
            "xs:base64Binary" | "base64" => single("Base64"),
            "m2m:scheduleEntry" => single("ScheduleEntry"),
            "m2m:resourceType" => single("ResourceType"),
            "m2m:memberType" => single("MemberType"),
            "m2m:responseStatusCode" => single("NonNegative"),
            "m2m:mgmtDefinition" => single("NonNegative"),
            "m2m:eventCat" => single("EventCategory"),
            "m2m:accessControlOperations" => single("AccessOperations"),
            n if self.enums.contains_key(n) => (format!("DataType::Enum({})", self.enums[n]), false),
            n if self.complex.contains_key(n) => (format!("DataType::Complex({})", self.complex[n]), false),
            // What no table describes: any JSON value of limited depth and size.
            _ => single("Any"),
        }
    }
}
